"""What the tests of logins share: a provider of OpenID Connect on this machine, and what a person does there."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oidc_provider_mock import User, run_server_in_thread
from playwright.sync_api import Browser, Page, Request

SECRET = "of the tests, and of nothing that anybody should not see"
PEOPLE: dict[str, dict[str, Any]] = {
    "vera": {"name": "Vera", "roles": ["pathology"]},
    "anna": {"name": "Anna", "roles": ["pathology", "research"]},
    "ada": {"name": "Ada", "roles": "admins"},
    "wilma": {"name": "Wilma", "roles": ["radiology", "admin"]},
    "nora": {"name": "Nora"},
    "tessa": {"name": "Tessa", "email": "Tessa@Example.org", "email_verified": True},
    "eve": {"name": "Eve", "email": "tessa@example.org", "email_verified": False},
}
ROLES = {"viewer": ["pathology"], "analyst": ["research"], "admin": ["admins"]}


@contextlib.contextmanager
def provider() -> Iterator[str]:
    """A provider where PEOPLE can log in; its address."""
    people = [User(sub=sub, claims=claims) for sub, claims in PEOPLE.items()]
    with run_server_in_thread(user_claims=people) as server:
        yield f"http://localhost:{server.server_port}"


def secrets(file: Path, provider: str, own: Mapping[str, Any]) -> tuple[str, str]:
    """The options of an app whose people log in there; own: the section [histolake]."""
    auth = {
        "redirect_uri": "http://127.0.0.1:{port}/oauth2callback",
        "cookie_secret": SECRET,
        "client_id": "histolake",
        "client_secret": "anything",
        "server_metadata_url": f"{provider}/.well-known/openid-configuration",
    }
    file.write_text("\n".join(["[auth]", *_lines(auth), "[histolake]", *_lines(own)]), encoding="utf-8")
    return "--secrets.files", str(file)


def _lines(values: Mapping[str, Any]) -> list[str]:
    plain = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, Mapping)]
    for name, value in values.items():
        if isinstance(value, Mapping):
            plain += [f"[histolake.{name}]", *_lines(value)]
    return plain


def visitor(browser: Browser, address: str) -> Page:
    """A page of the app in a browser that nobody has used before."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(30_000)
    page.route(re.compile("cdn"), lambda route: route.abort())  # the provider's pages want styles from elsewhere
    page.goto(address)
    return page


def log_in(page: Page, who: str) -> None:
    """Log in as one of PEOPLE, from a page that asks for it."""
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name=who, exact=True).click()


def cookie_of(page: Page) -> dict[str, str]:
    """The header that a browser with this page's cookies sends."""
    return {"Cookie": "; ".join(f"{each['name']}={each['value']}" for each in page.context.cookies(page.url))}


def tile_request(page: Page, address: str, slide_id: str) -> Request:
    """The first request for a tile of a slide that the viewer makes."""
    with page.expect_request(re.compile(f"/histolake/tiles/{slide_id}/")) as found:
        page.goto(f"{address}/viewer?slide={slide_id}")
    return found.value
