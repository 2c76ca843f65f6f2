"""The app: pages of a lake, and the routes that serve its slides. Start it with `histolake app`."""

from __future__ import annotations

import streamlit as st

from viewer.middleware import MIDDLEWARE
from viewer.routes import ROUTES
from viewer.warmup import warmed_up

app = st.App("viewer/navigation/main.py", routes=ROUTES, middleware=MIDDLEWARE, lifespan=warmed_up)
