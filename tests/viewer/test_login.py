"""What secrets.toml must say for people to log in, and who is let in without."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket
from streamlit import config
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME
from support import ROOT, TestLake
from viewer_support import Open, words

from lake import people
from lake.choices import Role
from udfs.errors import HistolakeError
from viewer import admissions, login, sessions, tokens
from viewer.middleware import MIDDLEWARE
from viewer.person import Person, person_later
from viewer.roles import VARIABLE, DeniedError, deny

AUTH = """
[auth]
redirect_uri = "https://histolake.example.org/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "histolake"
client_secret = "secret"
server_metadata_url = "https://login.example.org/.well-known/openid-configuration"
"""

Configure = Callable[..., login.Login | None]


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    """`configure(text)`: how people log in when that is secrets.toml, named by a flag or elsewhere."""
    before = config.get_option("secrets.files")

    def one(text: str, where: str = "a flag") -> login.Login | None:
        file = tmp_path / "secrets.toml"
        file.write_text(text, encoding="utf-8")
        config.set_option("secrets.files", [str(file)], where)
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
    assert configure("[other]\nkey = 1\n", "<default>") is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[histolake]\nidle_minutes = 3\n", "<default>"),
        ("[histolake]\n", "<default>"),
        ("[other]\nkey = 1\n", "a flag"),
    ],
)
def test_a_login_that_was_meant_and_is_not_there_stops_the_app(configure: Configure, text: str, where: str) -> None:
    with pytest.raises(HistolakeError, match=r"has no section \[auth\]"):
        configure(text, where)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('client_id = "histolake"\n', "", "lacks client_id"),
        ('client_secret = "secret"', 'client_secret = ""', "lacks client_secret"),
        ("0123456789abcdef0123456789abcdef", "short", "cookie_secret is shorter than 32"),
        ("https://histolake", "http://histolake", "it must be https://HOST/oauth2callback"),
        ("/oauth2callback", "/", "it must be https://HOST/oauth2callback"),
        ("https://login", "http://login", "server_metadata_url is http://login.example.org"),
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


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for data in socket.iter_bytes():
        await socket.send_bytes(data)


APP = Starlette(
    routes=[
        Route("/{path:path}", lambda request: PlainTextResponse("seen"), methods=["GET", "POST", "PUT"]),
        WebSocketRoute("/socket", echo),
    ],
    middleware=MIDDLEWARE,
)
"""Something behind the app's middleware."""


def ask(address: str, peer: str = "127.0.0.1", method: str = "GET", **headers: str) -> httpx.Response:
    """The answer to a request that comes from `peer` and names the app so, through the app's middleware."""

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(APP, client=(peer, 1234))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, address, headers=headers)

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


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Real-IP", "Via"])
def test_without_a_login_a_proxy_is_refused(configure: Configure, header: str) -> None:
    """It makes everybody look like this machine."""
    assert ask("http://127.0.0.1:8501/", **{header: "192.0.2.7"}).status_code == 403
    configure(AUTH)
    assert ask("http://127.0.0.1:8501/", **{header: "192.0.2.7"}).status_code == 200


@pytest.mark.parametrize("text", ["[other]\nkey = 1\n", AUTH])
def test_nothing_is_uploaded(configure: Configure, text: str) -> None:
    configure(text, "<default>")
    answer = ask("http://127.0.0.1:8501/_stcore/upload_file/session/file", method="PUT")
    assert (answer.status_code, answer.text) == (403, "no page of this app takes files\n")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"Sec-Fetch-Site": "none"}, 200),  # a person who typed the address
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8501"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),  # another port of this machine
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost:8501"}, 200),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_another_site_s_page_is_refused(headers: dict[str, str], status: int) -> None:
    address = "http://localhost:8501/histolake/saving/tumor_1"
    assert ask(address, method="POST", **headers).status_code == status
    assert ask("http://localhost:8501/", **headers).status_code == 200  # links to pages are fine


def test_what_only_developers_say_is_not_heard() -> None:
    """Clearing caches clears everybody's; the state of a checkout names files."""
    said = [BackMsg(clear_cache=True), BackMsg(load_git_info=True), BackMsg(stop_script=True)]
    client = TestClient(APP, client=("127.0.0.1", 1234))
    with client.websocket_connect("ws://localhost/socket") as socket:
        for message in said:
            socket.send_bytes(message.SerializeToString())
        socket.send_bytes(b"\xff no message at all")
        assert BackMsg.FromString(socket.receive_bytes()) == said[2]
        assert socket.receive_bytes() == b"\xff no message at all"


def test_with_a_login_other_machines_see_what_is_no_slide(configure: Configure) -> None:
    configure(AUTH)
    assert ask("https://histolake.example.org/", "192.0.2.7").status_code == 200
    answer = ask("https://histolake.example.org/media/0123.png", "192.0.2.7")
    assert (answer.status_code, answer.text) == (403, "You are not logged in. Log in to the app.\n")
    assert ask("https://histolake.example.org/_stcore/metrics", "192.0.2.7").status_code == 403
    assert ask("https://histolake.example.org/_stcore/health", "192.0.2.7").status_code == 200


def cookies_of(claims: dict[str, Any], limits: login.Login | None) -> dict[str, str]:
    """The cookies of a login that has just begun."""
    assert limits is not None
    payload = json.dumps({"nonce": secrets.token_hex(), **claims})
    signed = create_signed_value(get_cookie_secret(), USER_COOKIE_NAME, payload)
    cookies = {USER_COOKIE_NAME: signed.decode()}
    sessions.open_session(cookies, limits)
    return cookies


def test_who_logs_out_before_a_file_is_made_does_not_get_it(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookies = cookies_of({"sub": "s-1", "role": "admin"}, configure(AUTH + '[histolake]\nrole_claim = "role"\n'))
    monkeypatch.setattr(type(st.context), "cookies", cookies)
    leaver = person_later("save rows.csv")
    assert leaver() == Person("s-1", "s-1", Role.admin)
    sessions.end_session(cookies)
    with pytest.raises(DeniedError, match="You have logged out"):
        leaver()


@pytest.mark.parametrize(
    ("given_to", "claims", "role"),
    [
        ("Alice@Example.org", {"sub": "Alice@Example.org"}, Role.analyst),
        ("S-1", {"sub": "S-1"}, Role.analyst),
        ("S-1", {"sub": "s-1"}, None),
        ("alice@example.org", {"sub": "s-1", "email": "Alice@example.org", "email_verified": True}, Role.analyst),
        ("alice@example.org", {"sub": "s-1", "email": "alice@example.org", "email_verified": False}, None),
        ("none", {"sub": "s-1", "email_verified": True}, None),
    ],
)
def test_the_table_gives_a_role_to_whom_it_names(
    configure: Configure,
    lake: TestLake,
    monkeypatch: pytest.MonkeyPatch,
    given_to: str,
    claims: dict[str, Any],
    role: Role | None,
) -> None:
    monkeypatch.setenv("HISTOLAKE_LAKE", str(lake.root))
    people.set_role(lake.root, given_to, Role.analyst)
    monkeypatch.setattr(type(st.context), "cookies", cookies_of(claims, configure(AUTH)))
    found = person_later("look")
    if role is None:
        with pytest.raises(DeniedError, match="you have no role here"):
            found()
    else:
        assert found().role is role


def test_where_the_lake_cannot_be_read_nobody_is_let_in_and_denials_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOLAKE_LAKE", str(tmp_path))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "_delta_log").write_text("no folder")
    assert "Not a directory" in (admissions.record_login({"sub": "s-1"}) or "")
    admissions.record_logout({"sub": "s-1"})
    with pytest.raises(DeniedError, match="why not"):
        deny("s-2", "open the door", "why not")


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


def test_the_pages_alone_are_for_this_machine_alone(
    open_page: Open, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when they are started without app.py."""
    app = open_page(full_lake.root, "worklist")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(type(st.context), "ip_address", "192.0.2.7")
        app.run()
        assert "this app is for its own machine alone" in words(app)
        assert not app.dataframe
    config.set_option("server.address", "0.0.0.0")
    try:
        app.run()
        assert "the app would listen on 0.0.0.0 without a login" in words(app)
        assert not app.dataframe
    finally:
        config.set_option("server.address", "127.0.0.1")
    app.run()
    assert len(app.dataframe) == 1
