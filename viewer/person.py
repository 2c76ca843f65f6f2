"""The person at the browser: who they are, and their role. Pages ask `person()`, routes `person_of(request)`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.requests import HTTPConnection

from lake import audit, people
from lake.choices import Role, lake_path
from viewer import roles, sessions
from viewer.login import ALONE, Login, login
from viewer.sessions import LoggedOutError, Session

ROLES_KEPT_S = 10  # until the table people is read again: a tile must not wait for it


@dataclass(frozen=True)
class Person:
    """Who uses the app. subject: what the login provider calls them for good, else the user of this machine."""

    subject: str
    name: str
    role: Role

    def require(self, wanted: Role, deed: str) -> None:
        """Deny unless the person's role is `wanted`, or may more; `deed` completes "only the role admin may …"."""
        if not self.role.may(wanted):
            roles.deny(self.subject, deed, f"only the role {wanted} may {deed}, and yours is {self.role}")


def person() -> Person:
    """The person behind the page that is being made.

    Raises LoggedOutError where nobody is logged in, DeniedError where somebody is who has no role.
    """
    limits = login()
    if limits is None:
        peer = st.context.ip_address or "localhost"  # which is what None says there
        if not roles.is_loopback(peer):  # however the app was started
            roles.deny(roles.NOBODY, f"use this app from {peer}", ALONE)
        return _of_this_machine()
    return _of_login(_session_of_page(limits), limits)


def person_of(request: HTTPConnection) -> Person:
    """The person behind a request to a route. Raises DeniedError where nobody is, or one without a role."""
    return _of_cookies(request.cookies, f"ask for {request.url.path}")


def person_later(deed: str) -> Callable[[], Person]:
    """What tells, when the page has been made, who the person behind it is then; it raises as `person_of`.

    deed: what they want to do then.
    """
    return partial(_of_cookies, dict(st.context.cookies), deed)


def is_active(cookies: Mapping[str, str] | None = None) -> None:
    """Note that the person does something, by the request of these cookies, else by the page that is being made.

    Whose login is over is told so by the page's gate.
    """
    limits = login()
    if limits is None:
        return
    with suppress(LoggedOutError):
        sessions.touch(_session_of_page(limits) if cookies is None else sessions.session(cookies, limits))


def _session_of_page(limits: Login) -> Session:
    found = sessions.session(st.context.cookies, limits)
    if st.user.get("sub") != found.claims["sub"]:  # Streamlit has not taken the cookie: it is another site's request
        raise LoggedOutError("You are not logged in.")
    return found


def _of_cookies(cookies: Mapping[str, str], deed: str) -> Person:
    limits = login()
    if limits is None:
        return _of_this_machine()
    try:
        found = sessions.session(cookies, limits)
    except LoggedOutError as error:
        roles.deny(error.subject or roles.NOBODY, deed, f"{error} Log in to the app.")
    return _of_login(found, limits)


def _of_login(found: Session, limits: Login) -> Person:
    claims = found.claims
    subject = str(claims["sub"])
    role = _highest(_roles_told(claims, limits))
    if role is None:
        why = f"you have no role here: ask who looks after this app to give one to {subject}"
        roles.deny(subject, "use this app", why)
    return Person(subject, str(claims.get("name") or claims.get("email") or subject), role)


def _roles_told(claims: Mapping[str, Any], limits: Login) -> Iterable[Role]:
    """The roles that the claim gives, where secrets.toml names one; else those of the table people.

    Never of both: to take a role away in one place must be enough.
    """
    if limits.role_claim is not None:
        told = claims.get(limits.role_claim)
        values = told if isinstance(told, list) else [told]
        return [limits.roles[value] for value in values if isinstance(value, str) and value in limits.roles]
    table = _table(lake_path(), int(time.monotonic() / ROLES_KEPT_S))
    names = [str(claims["sub"])]
    if claims.get("email_verified") is True and claims.get("email"):  # else who may write any address would be anybody
        names.append(str(claims["email"]))
    return [table[name] for name in map(people.named, names) if name in table]


@lru_cache(maxsize=2)
def _table(root: Path, _moment: int) -> dict[str, Role]:
    return people.roles(root)


def _highest(found: Iterable[Role]) -> Role | None:
    return max(found, key=list(Role).index, default=None)


def _of_this_machine() -> Person:
    user = audit.user().subject
    return Person(user, user, roles.role_without_login())
