"""How people log in, as Streamlit's secrets.toml says: its own section [auth], and ours, [histolake]."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
from streamlit import config

from lake.choices import Role
from udfs.errors import HistolakeError
from viewer.roles import is_loopback

PROVIDER = ("client_id", "client_secret", "server_metadata_url")
NEEDED = ("redirect_uri", "cookie_secret", *PROVIDER)
CALLBACK = "/oauth2callback"
SECRET_LENGTH = 32  # characters of a cookie_secret, at least
OWN = ("role_claim", "roles", "idle_minutes", "session_hours", "token_minutes")
HOW = "docs/app.md, Logging in, tells what to configure"
ALONE = f"nobody logs in here, so this app is for its own machine alone: {HOW}"
IDLE_MINUTES, SESSION_HOURS, TOKEN_MINUTES = 30, 12, 10


@dataclass(frozen=True)
class Login:
    """What a login is worth. role_claim: the claim that gives the role; None: the lake's table people gives it.

    roles: the role of each value of that claim. idle_s, session_s: how long a login lasts when nothing is done, and
    at all, seconds. token_s: how long a slide's token is good for at least, seconds. is_https: whether browsers reach
    the app by https.
    """

    role_claim: str | None
    roles: Mapping[str, Role]
    idle_s: float
    session_s: float
    token_s: float
    is_https: bool


@cache
def login() -> Login | None:
    """How people log in; None where nobody has to. Raises HistolakeError where secrets.toml has it half."""
    auth, own = _section("auth"), _section("histolake")
    if auth is None:
        if own is not None or config.is_manually_set("secrets.files"):  # somebody meant that people log in
            raise HistolakeError(f"secrets.toml: it has no section [auth], so that nobody would have to log in; {HOW}")
        return None
    _check(auth)
    own = own or {}
    if unknown := sorted(set(own) - set(OWN)):
        raise HistolakeError(f"secrets.toml: [histolake] has no {unknown[0]}; it has {', '.join(OWN)}")
    claim = own.get("role_claim")
    return Login(
        role_claim=None if claim is None else str(claim),
        roles=_roles(own.get("roles", {})),
        idle_s=60 * _positive(own, "idle_minutes", IDLE_MINUTES),
        session_s=3600 * _positive(own, "session_hours", SESSION_HOURS),
        token_s=60 * _positive(own, "token_minutes", TOKEN_MINUTES),
        is_https=str(auth["redirect_uri"]).startswith("https://"),
    )


def demand_login_or_loopback() -> None:
    """Raise HistolakeError where the app would listen to other machines and nobody would have to log in."""
    address = st.get_option("server.address")
    if login() is None and not is_loopback(address):
        raise HistolakeError(
            f"the app would listen on {address or 'every address'} without a login, and slides are data of patients: "
            f"let it listen on 127.0.0.1, or configure OpenID Connect in .streamlit/secrets.toml; {HOW}"
        )


def token_seconds() -> float:
    """How long a slide's token is good for at least."""
    found = login()
    return found.token_s if found else 60.0 * TOKEN_MINUTES


def _section(name: str) -> dict[str, Any] | None:
    try:
        is_read = st.secrets.load_if_toml_exists()
    except OSError as error:
        raise HistolakeError(f"secrets.toml cannot be read: {error}") from error
    if is_read:
        return dict(st.secrets[name]) if name in st.secrets else None
    files = st.get_option("secrets.files")
    if found := [file for file in files if os.path.exists(file)]:  # Streamlit would go on without a login
        raise HistolakeError(f"{found[0]}: is no valid TOML; `streamlit run app.py` tells the line")
    if config.is_manually_set("secrets.files"):
        raise HistolakeError(f"{', '.join(files)}: no such file; it shall tell how people log in")
    return None


def _check(auth: Mapping[str, Any]) -> None:
    if missing := [name for name in NEEDED if not auth.get(name)]:
        raise HistolakeError(f"secrets.toml: [auth] lacks {', '.join(missing)}; {HOW}")
    if len(str(auth["cookie_secret"])) < SECRET_LENGTH:
        raise HistolakeError(f"secrets.toml: cookie_secret is shorter than {SECRET_LENGTH}: `openssl rand -hex 32`")
    back, provider = str(auth["redirect_uri"]), str(auth["server_metadata_url"])
    if urlsplit(back).path != CALLBACK or not _is_private(back):
        raise HistolakeError(
            f"secrets.toml: redirect_uri is {back}; it must be https://HOST{CALLBACK}, or http:// on "
            "this machine alone: who listens on the way would have the login"
        )
    if not _is_private(provider):
        raise HistolakeError(
            f"secrets.toml: server_metadata_url is {provider}; it must be https://…, or http:// on this machine alone: "
            "who is on the way could say who anybody is"
        )
    if find_spec("authlib") is None:
        raise HistolakeError("a login needs Authlib, which is not installed: pip install --editable '.[auth]'")


def _is_private(address: str) -> bool:
    """Whether nobody else can read, or change, what goes to that address and comes back."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def _roles(told: Mapping[str, Any]) -> dict[str, Role]:
    """The role of each value of the claim; without any told, a role's own name stands for it."""
    if unknown := sorted(set(told) - set(Role)):
        raise HistolakeError(f"secrets.toml: [histolake.roles] has no {unknown[0]}; it has {', '.join(Role)}")
    found: dict[str, Role] = {}
    for each in Role:  # the highest last: it holds where a value stands twice
        values = told.get(each, [] if told else [each])
        if isinstance(values, str):
            raise HistolakeError(f"secrets.toml: {each} in [histolake.roles] must be a list, as [{values!r}]")
        found.update(dict.fromkeys(map(str, values), each))
    return found


def _positive(own: Mapping[str, Any], name: str, usual: float) -> float:
    value = own.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise HistolakeError(f"secrets.toml: {name} is {value!r}; it must be a number above 0")
    return float(value)
