"""The app: pages of a lake, and the routes that serve its slides. Start it with `histolake app`."""

from __future__ import annotations

import sys

import streamlit as st

from udfs.errors import HistolakeError
from viewer.login import demand_login_or_loopback
from viewer.middleware import MIDDLEWARE
from viewer.routes import ROUTES
from viewer.warmup import warmed_up

try:
    demand_login_or_loopback()
except HistolakeError as error:
    sys.exit(f"histolake: {error}")

app = st.App("viewer/navigation/main.py", routes=ROUTES, middleware=MIDDLEWARE, lifespan=warmed_up)
