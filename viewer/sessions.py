"""The logins that this process knows: who they are, and when they end. Whoever is not among them is a stranger.

Streamlit's cookie says who logged in, is good for 30 days, and cannot be called back. So a login counts only from the
answer that set the cookie in this process until it is idle for too long, too old, or logged out. Nothing is kept
beyond the process: after a restart people log in again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from streamlit.auth_util import get_cookie_with_chunks
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from udfs.errors import HistolakeError
from viewer.admissions import record_login, record_logout
from viewer.login import Login

REMEMBERED_S = 86_400.0  # why a login ended is told for so long


class LoggedOutError(HistolakeError):
    """Nobody is logged in, or no longer. subject: who it was, where that is known."""

    def __init__(self, why: str, subject: str | None = None) -> None:
        super().__init__(why)
        self.subject = subject


@dataclass
class Session:
    """A login. claims: what the provider says of the person. opened, seen: seconds of the monotonic clock."""

    claims: Mapping[str, Any]
    opened: float
    seen: float
    ended: str | None = None


_sessions: dict[str, Session] = {}
_lock = threading.Lock()


def open_session(cookies: Mapping[str, str], limits: Login) -> None:
    """Begin the login whose cookies are being set."""
    payload = _payload(cookies)
    if payload is None:
        return
    now = monotonic()
    with _lock:
        for key in [key for key, each in _sessions.items() if now - each.opened > limits.session_s + REMEMBERED_S]:
            del _sessions[key]
        if _key(payload) in _sessions:
            return
        begun = _sessions[_key(payload)] = Session(json.loads(payload), now, now)
    begun.ended = record_login(begun.claims)


def end_session(cookies: Mapping[str, str]) -> None:
    """End the login of these cookies, wherever they have been copied to."""
    payload = _payload(cookies)
    with _lock:
        found = _sessions.get(_key(payload)) if payload else None
        if found is None or found.ended is not None:
            return
        found.ended = "You have logged out."
    record_logout(found.claims)


def session(cookies: Mapping[str, str], limits: Login) -> Session:
    """The login of whoever sends these cookies. Raises LoggedOutError with the reason why there is none."""
    payload = _payload(cookies)
    if payload is None:
        raise LoggedOutError("You are not logged in.")
    with _lock:
        found = _sessions.get(_key(payload))
        if found is None:
            raise LoggedOutError("The app was started again since you logged in.")
        now = monotonic()
        if found.ended is None and now - found.opened > limits.session_s:
            found.ended = f"You were logged out: a login lasts {limits.session_s / 3600:g} hours."
        if found.ended is None and now - found.seen > limits.idle_s:
            found.ended = f"You were logged out: nothing was done for {limits.idle_s / 60:g} minutes."
        if found.ended is not None:
            raise LoggedOutError(found.ended, str(found.claims["sub"]))
        return found


def touch(found: Session) -> None:
    """Note that the person does something: what pages and browsers do by themselves does not count."""
    with _lock:
        found.seen = monotonic()


def _payload(cookies: Mapping[str, str]) -> bytes | None:
    """What Streamlit wrote into its cookie; None without one that it has signed."""
    secret = get_cookie_secret()

    def signed(name: str) -> bytes | None:
        value = cookies.get(name)
        return decode_signed_value(secret, name, value) if value else None

    return get_cookie_with_chunks(signed, USER_COOKIE_NAME)


def _key(payload: bytes) -> str:
    """What tells logins apart: the provider's claims hold a nonce."""
    return hashlib.sha256(payload).hexdigest()
