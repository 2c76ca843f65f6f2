"""Where a person is denied what they may not do, all in one place; and the role of everybody where nobody logs in."""

from __future__ import annotations

import ipaddress
import os
from http import HTTPStatus
from typing import NoReturn

from lake.choices import Role
from udfs.errors import HistolakeError
from viewer.admissions import record_denial

VARIABLE = "HISTOLAKE_APP_ROLE"
NOBODY = "nobody"  # who did not say who they are


class DeniedError(HistolakeError):
    """What a person, or nobody known, asked for and may not do."""


def deny(subject: str, deed: str, why: str) -> NoReturn:
    """Deny a person, or NOBODY, a deed: raises DeniedError with the sentence `why`. Every denial comes through here."""
    record_denial(subject, deed, why)
    raise DeniedError(why)


def status(error: HistolakeError) -> HTTPStatus:
    """What a request is answered with that failed so before it came to its route."""
    return HTTPStatus.FORBIDDEN if isinstance(error, DeniedError) else HTTPStatus.INTERNAL_SERVER_ERROR


def role_without_login() -> Role:
    """The role of everybody where nobody logs in: the environment's HISTOLAKE_APP_ROLE names it, else it is admin.

    Raises HistolakeError for a role that does not exist.
    """
    named = os.environ.get(VARIABLE, "").strip().lower()
    try:
        return Role(named or Role.admin)
    except ValueError:
        raise HistolakeError(f"{VARIABLE}={named}: must be one of {', '.join(Role)}") from None


def is_loopback(address: str | None) -> bool:
    """Whether an address, or a name, is of this machine alone; None, which Streamlit takes for all, is not."""
    if not address:
        return False
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False
