"""The person at the browser: who they are, and their role. Pages ask `person()`, routes `person_of(request)`."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

import streamlit as st
from starlette.requests import HTTPConnection

from viewer import roles
from viewer.roles import Role


@dataclass(frozen=True)
class Person:
    """Who uses the app. subject: what the login provider calls them, else the user of this machine; never reused."""

    subject: str
    name: str
    role: Role

    def require(self, wanted: Role, deed: str) -> None:
        """Deny unless the person's role is `wanted`, or may more; `deed` completes "only the role admin may …"."""
        roles.require(self.subject, self.role, wanted, deed)


def person() -> Person:
    """The person behind the page that is being made. Raises DeniedError where nobody may be there."""
    return _of_this_machine(st.context.ip_address)


def person_of(request: HTTPConnection) -> Person:
    """The person behind a request to a route of ours. Raises DeniedError where nobody may ask."""
    return _of_this_machine(request.client.host if request.client else None)


def _of_this_machine(peer: str | None) -> Person:
    user = _user()
    return Person(user, user, roles.role_without_login(peer))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in a container; which differs by Python
        return "local"
