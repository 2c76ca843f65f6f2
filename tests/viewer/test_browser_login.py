"""Who is let in where, in Chromium, with a provider of OpenID Connect on this machine."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from browser_support import alpha, open_viewer, served, settle, until
from login_support import ROLES, cookie_of, log_in, provider, secrets, tile_request, visitor
from playwright.sync_api import Browser, Page, Request, expect
from support import TestLake

pytestmark = pytest.mark.slow

IDLE_S, SESSION_S = 30, 90
TOKEN_S = 24  # longer than it takes until a page renews them
PAGES = {"worklist": "", "viewer": "viewer", "models": "models", "sql": "sql", "lineage": "lineage"}
ASKS_FOR_ANALYST = ("models", "sql", "lineage")

Visit = Callable[[str], Page]
get, post = (partial(ask, timeout=60) for ask in (httpx.get, httpx.post))


@pytest.fixture(scope="module")
def own(finished: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> TestLake:
    return TestLake(Path(shutil.copytree(finished[1] / "lake", tmp_path_factory.mktemp("logins") / "lake")))


@pytest.fixture(scope="module")
def where() -> Iterator[str]:
    with provider() as address:
        yield address


@pytest.fixture(scope="module")
def app(own: TestLake, where: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app that takes roles from a claim."""
    file = tmp_path_factory.mktemp("claim") / "secrets.toml"
    with served(own.root, *secrets(file, where, {"role_claim": "roles", "roles": ROLES})) as address:
        yield address


@pytest.fixture(scope="module")
def brief(own: TestLake, where: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app whose logins and tokens end soon, and that takes roles from the table people."""
    limits = {"idle_minutes": IDLE_S / 60, "session_hours": SESSION_S / 3600, "token_minutes": TOKEN_S / 60}
    own.ok("people", "set", "tessa@example.org", "analyst")
    own.ok("people", "set", "vera", "viewer")
    with served(own.root, *secrets(tmp_path_factory.mktemp("table") / "secrets.toml", where, limits)) as address:
        yield address


@pytest.fixture
def visit(browser: Browser, app: str) -> Iterator[Visit]:
    """`visit("vera")`: the app in a browser of her own, where she has logged in."""
    pages = []

    def one(who: str) -> Page:
        pages.append(visitor(browser, app))
        log_in(pages[-1], who)
        return pages[-1]

    yield one
    for page in pages:
        page.context.close()


def status(request: Request, **headers: str) -> int:
    """How the server answers the request's address with other headers."""
    return get(request.url, headers=headers).status_code


def test_nothing_is_told_to_whom_is_not_logged_in(browser: Browser, app: str) -> None:
    page = visitor(browser, app)
    for path in PAGES.values():
        page.goto(f"{app}/{path}")
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        text = page.locator(".stApp").inner_text()
        assert not re.search("tumor_|Champion|Table versions|Worklist|SQL", text)
    page.context.close()


@pytest.mark.parametrize(("who", "role"), [("vera", "viewer"), ("anna", "analyst"), ("ada", "admin")])
def test_a_role_opens_its_pages_and_refuses_the_others_by_address(visit: Visit, app: str, who: str, role: str) -> None:
    page = visit(who)
    expect(page.get_by_text(f"{who.capitalize()}, {role}")).to_be_visible()
    expect(page.get_by_text("6 slides: 6 scored")).to_be_visible()
    shown = 2 if role == "viewer" else 5
    expect(page.get_by_test_id("stTopNavLink")).to_have_count(shown)
    for path in ASKS_FOR_ANALYST:
        page.goto(f"{app}/{path}")
        refusal = page.get_by_text("only the role analyst may open the page")
        if role == "viewer":
            expect(refusal).to_be_visible()
            assert "Champion" not in page.locator(".stApp").inner_text()
        else:
            page.get_by_text("Table versions").first.wait_for()
            expect(refusal).to_have_count(0)


@pytest.mark.parametrize("who", ["wilma", "nora"])
def test_who_has_no_role_or_another_systems_sees_that_and_nothing_else(visit: Visit, app: str, who: str) -> None:
    page = visit(who)
    for path in PAGES.values():
        page.goto(f"{app}/{path}")
        expect(
            page.get_by_text(f"you have no role here: ask who looks after this app to give one to {who}")
        ).to_be_visible()
        assert not re.search("tumor_|Champion|Table versions|Worklist", page.locator(".stApp").inner_text())
    answer = get(f"{app}/histolake/thumbnails/tumor_4.jpeg?token=1.f", headers=cookie_of(page))
    assert (answer.status_code, answer.headers["cache-control"]) == (403, "no-store")
    page.get_by_role("button", name="Log out").click()


def test_a_tile_is_for_who_was_shown_the_slide_and_no_other(visit: Visit, app: str) -> None:
    anna, vera = visit("anna"), visit("vera")
    asked = tile_request(anna, app, "tumor_4")
    token, own, others = asked.headers["histolake-token"], cookie_of(anna), cookie_of(vera)
    answer = get(asked.url, headers={"Histolake-Token": token, **own})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")
    assert status(asked) == 403
    assert status(asked, **{"Histolake-Token": token}) == 403
    assert status(asked, **own) == 403
    assert status(asked, **{"Histolake-Token": token}, **others) == 403
    until, _, signature = token.partition(".")
    later = f"{int(until, 16) + 9:x}.{signature}"
    for forged in ("x", ".", f"{until}.", f"{until}.{signature[::-1]}", later):
        assert status(asked, **{"Histolake-Token": forged}, **own) == 403
    for route in ("tiles/{}/8/0_0.jpeg", "heatmaps/{}", "outcomes/{}", "annotations/{}", "hotspots/{}"):
        for slide_id, expected in (("tumor_4", 200), ("tumor_3", 403)):
            address = f"{app}/histolake/{route.format(slide_id)}"
            assert get(address, headers={"Histolake-Token": token, **own}).status_code == expected
            assert get(f"{address}?token={token}", headers=own).status_code == expected
            assert get(address).status_code == 403
    for slide_id, expected in (("tumor_4", 204), ("tumor_3", 403)):
        saving = f"{app}/histolake/saving/{slide_id}"
        assert post(saving, headers={"Histolake-Token": token, **own}).status_code == expected
        assert post(saving).status_code == 403
    thumbnail = f"{app}/histolake/thumbnails/tumor_4.jpeg"
    assert get(thumbnail, headers={"Histolake-Token": token, **own}).status_code == 403
    vera.goto(app)
    with vera.expect_response(re.compile("/histolake/thumbnails/tumor_4")) as seen:
        vera.reload()
    assert (seen.value.status, get(seen.value.url, headers=others).status_code) == (200, 200)
    assert get(seen.value.url, headers=own).status_code == 403


def test_a_login_that_is_over_is_over_wherever_its_cookie_went(visit: Visit, app: str, own: TestLake) -> None:
    page = visit("anna")
    asked = tile_request(page, app, "tumor_4")
    copied = {"Histolake-Token": asked.headers["histolake-token"], **cookie_of(page)}
    kept = page.context.cookies(app)
    assert status(asked, **copied) == 200
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="End session").click()  # the provider asks
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    assert status(asked, **copied) == 403
    page.context.add_cookies(kept)
    page.goto(app)
    expect(page.get_by_text("You have logged out.")).to_be_visible()
    recorded = own.read("audit").sort("sequence").filter(subject="anna").select("action", "slide_id").rows()
    begun = len(recorded) - 1 - [action for action, _ in reversed(recorded)].index("logged in")
    assert recorded[begun : begun + 3] == [("logged in", None), ("opened", "tumor_4"), ("logged out", None)]
    assert {action for action, _ in recorded[begun + 3 :]} == {"denied"}


def test_files_of_a_page_ask_for_a_login(visit: Visit, app: str) -> None:
    page = visit("anna")
    with page.expect_download() as saved:
        page.get_by_test_id("stDownloadButton").get_by_role("button").click()
    assert saved.value.suggested_filename == "worklist.csv"
    viewer = open_viewer(page, app, "slide=tumor_4")
    box = viewer.locator(".picture").first.bounding_box()
    assert box is not None
    with page.expect_response(re.compile("/media/")) as found:
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    picture = found.value.url
    assert get(picture, headers=cookie_of(page)).status_code == 200
    assert get(picture).status_code == 403
    expect(page.get_by_text("Your verdict")).to_be_visible()
    expect(page.get_by_label("Your name")).to_have_count(0)


def test_another_name_of_the_machine_is_fine_with_a_login(app: str) -> None:
    assert get(app, headers={"Host": "histolake.example.org"}).status_code == 200


# -- roles of the table, and what ends by itself


def test_the_table_gives_roles_to_subjects_and_to_addresses_that_were_verified(
    browser: Browser, brief: str, own: TestLake
) -> None:
    for who, said in (("tessa", "Tessa, analyst"), ("eve", "you have no role here"), ("nora", "you have no role here")):
        page = visitor(browser, brief)
        log_in(page, who)
        expect(page.get_by_text(said)).to_be_visible()
        page.context.close()
    page = visitor(browser, brief)
    log_in(page, "vera")
    expect(page.get_by_text("Vera, viewer")).to_be_visible()
    own.ok("people", "remove", "vera")
    expect(page.get_by_text("you have no role here")).to_be_visible()  # without anybody's doing
    assert "tumor" not in page.locator(".stApp").inner_text()
    page.context.close()


@dataclass
class Watched:
    """A page with a slide, and the first request for a tile of it, with what a browser sends along."""

    page: Page
    asked: Request
    headers: dict[str, str]


def watched(browser: Browser, address: str) -> Watched:
    """A slide as Tessa is shown it, who may see it."""
    page = visitor(browser, address)
    log_in(page, "tessa")
    asked = tile_request(page, address, "tumor_4")
    headers = {"Histolake-Token": asked.headers["histolake-token"], **cookie_of(page)}
    assert status(asked, **headers) == 200
    return Watched(page, asked, headers)


@pytest.fixture(scope="module")
def idle(browser: Browser, brief: str) -> Iterator[Watched]:
    """What nobody does anything with; it is begun before the long visit, so that one waits for both at once."""
    found = watched(browser, brief)
    yield found
    found.page.context.close()


@dataclass
class LongVisit:
    """What was seen in a visit until the login was too old.

    opacities: of the heatmap, again and again. fetched: addresses. links: to hotspots, with a token. denied: what the
    server says of the first token, as long as its owner is there.
    """

    opacities: list[float]
    fetched: list[str]
    links: set[str]
    denied: str | None = None


@pytest.fixture(scope="module")
def long_visit(browser: Browser, brief: str, idle: Watched) -> LongVisit:
    """A person looks at a slide until the login is too old."""
    found = watched(browser, brief)
    page = found.page
    viewer = page.locator(".viewer")
    until(lambda: alpha(viewer) > 0, "the heatmap is drawn")
    settle(page)
    seen = LongVisit([], [], set())
    page.on("request", lambda request: seen.fetched.append(request.url))
    over = page.get_by_text("You were logged out: a login lasts 0.025 hours.")
    clicked = time.monotonic()
    for number in range(SESSION_S):
        if time.monotonic() - clicked > IDLE_S / 6:
            clicked = time.monotonic()
            page.mouse.click(400 + number, 400)  # on the picture: it is not idle
        page.mouse.wheel(0, -200 if number % 8 < 4 else 200)
        seen.opacities += alphas(page)
        links = page.locator('.viewer [data-control="hotspotsFile"]')
        seen.links |= set(links.evaluate_all("found => found.map(a => a.href)"))
        if seen.denied is None:
            answer = get(found.asked.url, headers=found.headers)
            seen.denied = answer.json()["error"] if answer.status_code == 403 else None
        if over.count():
            break
        page.wait_for_timeout(1000)
    expect(over).to_be_visible()
    page.context.close()
    return seen


def test_a_page_renews_its_tokens_without_flickering_until_the_login_is_too_old(long_visit: LongVisit) -> None:
    assert len(long_visit.links) > 2
    assert len(long_visit.opacities) > 10
    assert min(long_visit.opacities) > 0  # the heatmap was there all the time,
    again = [url for url in long_visit.fetched if "/heatmaps/" in url or "/annotations/" in url]
    assert not again  # and was fetched once


def test_an_old_token_is_denied_although_its_owner_is_there(long_visit: LongVisit) -> None:
    assert long_visit.denied is not None
    assert "has expired" in long_visit.denied


def test_an_idle_login_ends_and_the_page_says_why(idle: Watched, browser: Browser, brief: str) -> None:
    page = idle.page
    expect(page.get_by_text("You were logged out: nothing was done for 0.5 minutes.")).to_be_visible()
    expect(page.locator(".viewer")).to_have_count(0)
    answer = get(idle.asked.url, headers=idle.headers)
    assert (answer.status_code, "nothing was done" in answer.json()["error"]) == (403, True)
    log_in(page, "tessa")
    expect(page.get_by_text("Tessa, analyst")).to_be_visible()


def alphas(page: Page) -> list[float]:
    """The overlay's opacity; none when the viewer is gone."""
    script = """canvases => canvases.map(canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let sum = 0;
        for (let at = 3; at < data.length; at += 4) sum += data[at];
        return sum / (data.length / 4) / 255;
    })"""
    return list(page.locator(".viewer .pane:not([hidden]) .overlay").evaluate_all(script))
