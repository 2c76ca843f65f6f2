"""What secrets.toml must say for people to log in, and who is let in without."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streamlit import config
from support import ROOT, TestLake
from viewer_support import Open

from lake.choices import Role
from udfs.errors import HistolakeError
from viewer import login, tokens
from viewer.middleware import MIDDLEWARE
from viewer.roles import VARIABLE, DeniedError

AUTH = """
[auth]
redirect_uri = "https://histolake.example.org/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "histolake"
client_secret = "secret"
server_metadata_url = "https://login.example.org/.well-known/openid-configuration"
"""

Configure = Callable[[str], login.Login | None]


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    """`configure(text)`: how people log in when that is secrets.toml."""
    before = config.get_option("secrets.files")

    def one(text: str) -> login.Login | None:
        file = tmp_path / "secrets.toml"
        file.write_text(text, encoding="utf-8")
        config.set_option("secrets.files", [str(file)])
        forget()
        return login.login()

    def forget() -> None:
        st.secrets._reset()
        login.login.cache_clear()

    yield one
    config.set_option("secrets.files", before, "<default>")
    forget()


def test_limits_and_roles_have_usual_values(configure: Configure) -> None:
    found = configure(AUTH)
    assert found is not None
    assert (found.idle_s, found.session_s, found.token_s, found.is_https) == (1800, 43_200, 600, True)
    assert (found.role_claim, found.roles) == (None, {"viewer": "viewer", "analyst": "analyst", "admin": "admin"})


def test_values_of_the_claim_are_named_by_role_and_the_highest_holds(configure: Configure) -> None:
    own = '[histolake]\nrole_claim = "groups"\n[histolake.roles]\nviewer = ["a", "b"]\nadmin = ["b"]\n'
    found = configure(AUTH + own)
    assert found is not None
    assert (found.role_claim, found.roles) == ("groups", {"a": Role.viewer, "b": Role.admin})


def test_without_a_section_auth_nobody_logs_in(configure: Configure) -> None:
    assert configure("[other]\nkey = 1\n") is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('client_id = "histolake"\n', "", "lacks client_id"),
        ('client_secret = "secret"', 'client_secret = ""', "lacks client_secret"),
        ("0123456789abcdef0123456789abcdef", "short", "cookie_secret is shorter than 32"),
        ("https://histolake", "http://histolake", "it must be https://HOST/oauth2callback"),
        ("/oauth2callback", "/", "it must be https://HOST/oauth2callback"),
        ("[auth]", "[auth", "is no valid TOML"),
        ("[auth]", "[histolake]\nidle = 3\n[auth]", "has no idle"),
        ("[auth]", "[histolake]\nidle_minutes = 0\n[auth]", "idle_minutes is 0"),
        ("[auth]", "[histolake]\nsession_hours = true\n[auth]", "session_hours is True"),
        ("[auth]", "[histolake.roles]\nroot = ['x']\n[auth]", "has no root"),
        ("[auth]", "[histolake.roles]\nadmin = 'x'\n[auth]", "must be a list"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_starts(configure: Configure, old: str, new: str, said: str) -> None:
    assert old in AUTH
    with pytest.raises(HistolakeError, match=said):
        configure(AUTH.replace(old, new))


def test_plain_http_is_for_this_machine_alone(configure: Configure) -> None:
    found = configure(AUTH.replace("https://histolake.example.org", "http://localhost:8501"))
    assert found is not None
    assert not found.is_https


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", "histolake.example.org", None])
def test_without_a_login_the_app_may_listen_on_its_own_machine_alone(
    monkeypatch: pytest.MonkeyPatch, configure: Configure, address: str | None
) -> None:
    told = {"server.address": address, "secrets.files": []}
    monkeypatch.setattr(st, "get_option", told.get)
    with pytest.raises(HistolakeError, match="without a login, and slides are data of patients"):
        login.demand_login_or_loopback()
    told["server.address"] = "127.0.0.1"
    login.demand_login_or_loopback()
    configure(AUTH)
    told["server.address"] = address
    login.demand_login_or_loopback()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("lake", "app", "--host", "0.0.0.0"), ("streamlit", "run", "app.py", "--server.address", "0.0.0.0")]
)
def test_however_it_is_started_it_ends_when_others_could_reach_it(tmp_path: Path, command: tuple[str, ...]) -> None:
    environment = {**os.environ, "HISTOLAKE_LAKE": str(tmp_path / "lake"), "STREAMLIT_SERVER_HEADLESS": "true"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "histolake: the app would listen on 0.0.0.0 without a login" in done.stderr
    assert "Traceback" not in done.stderr


def ask(address: str, peer: str) -> httpx.Response:
    """The answer to a request that comes from `peer` and names the app so, through the app's middleware."""
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("seen"))], middleware=MIDDLEWARE)

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(peer, 1234))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get(address)

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("address", "peer", "status"),
    [
        ("http://localhost:8501/", "127.0.0.1", 200),
        ("http://127.0.0.1:8501/", "127.0.0.1", 200),
        ("http://[::1]:8501/", "::1", 200),
        ("http://127.0.0.1:8501/", "192.0.2.7", 403),
        ("http://rebound.example.org/", "127.0.0.1", 403),  # a web site whose name leads here for a moment
        ("http://localhost.example.org/", "127.0.0.1", 403),
    ],
)
def test_without_a_login_only_this_machine_is_answered_under_its_own_name(address: str, peer: str, status: int) -> None:
    answer = ask(address, peer)
    assert answer.status_code == status
    assert (answer.text == "seen") is (status == 200)


def test_with_a_login_other_machines_see_what_is_no_slide(configure: Configure) -> None:
    configure(AUTH)
    assert ask("https://histolake.example.org/", "192.0.2.7").status_code == 200
    answer = ask("https://histolake.example.org/media/0123.png", "192.0.2.7")
    assert (answer.status_code, answer.text) == (403, "You are not logged in. Log in to the app.\n")


def test_a_token_is_good_for_one_life_and_not_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tokens.token("anna", "slide", "one")
    life, start = login.token_seconds(), tokens.monotonic()
    for after, is_good in ((0, True), (life, True), (2 * life, False)):
        monkeypatch.setattr(tokens, "monotonic", lambda now=start + after: now)
        if is_good:
            tokens.check("anna", "slide", "one", given)
        else:
            with pytest.raises(DeniedError, match="expired"):
                tokens.check("anna", "slide", "one", given)


@pytest.mark.parametrize("page", ["models", "sql", "lineage"])
def test_a_page_of_another_role_says_so_and_shows_nothing(
    open_page: Open, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv(VARIABLE, "viewer")
    app = open_page(full_lake.root, page)
    assert "only the role analyst may open the page" in app.error[0].value
    assert not app.title
    assert not app.dataframe
