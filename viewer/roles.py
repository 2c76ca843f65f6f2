"""Who may do what in the app; the one place that tells the role of the person at the browser.

The environment's HISTOLAKE_APP_ROLE names the role of everybody: `viewer` reads, `analyst` reads and queries, `admin`
may also change what others see, such as the champion. Without it, who comes from this machine to an app that listens
on this machine alone is an admin, and everybody else a viewer. Behind a proxy all seem to come from this machine:
name the role there.
"""

from __future__ import annotations

import ipaddress
import os
from enum import StrEnum

import streamlit as st

from udfs.errors import HistolakeError

VARIABLE = "HISTOLAKE_APP_ROLE"


class Role(StrEnum):
    """What a person may do; each may all that those before it may."""

    viewer = "viewer"
    analyst = "analyst"
    admin = "admin"


def role() -> Role:
    """The role of whoever uses the app. Raises HistolakeError for one that does not exist."""
    named = os.environ.get(VARIABLE, "").strip().lower()
    if not named:
        is_own = _is_loopback(st.get_option("server.address")) and _is_loopback(st.context.ip_address or "localhost")
        return Role.admin if is_own else Role.viewer
    try:
        return Role(named)
    except ValueError:
        raise HistolakeError(f"{VARIABLE}={named}: must be one of {', '.join(Role)}") from None


def require(wanted: Role, deed: str) -> None:
    """Raise HistolakeError unless the role is `wanted`, or may more; `deed` completes "only an admin may …"."""
    held = role()
    if list(Role).index(held) < list(Role).index(wanted):
        raise HistolakeError(f"only the role {wanted} may {deed}, and this app has the role {held}: see {VARIABLE}")


def _is_loopback(address: str | None) -> bool:
    if not address:
        return False  # Streamlit then listens on every address
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False
