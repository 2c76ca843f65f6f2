"""Fixtures of the app's tests: the app on a lake, in this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from browser_support import ARGUMENTS, is_ours, served
from playwright.sync_api import Browser, Page, sync_playwright
from streamlit.testing.v1 import AppTest
from support import ROOT, TestLake

from viewer import slides
from viewer.roles import VARIABLE

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Pages that run in this process take the place of its main module, which processes it starts look into."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Open:
    """`open_page(root, "viewer", slide="tumor_1")`: a page of the app on the lake at `root`, as an analyst sees it."""

    def opened(root: Path, page: str, **query: str) -> AppTest:
        st.cache_data.clear()  # tests change the lake at one path in different ways
        slides.forget()
        monkeypatch.setenv("HISTOLAKE_LAKE", str(root))
        monkeypatch.setattr(type(st.context), "ip_address", None)  # this machine: the tester has no connection
        if VARIABLE not in os.environ:
            monkeypatch.setenv(VARIABLE, "analyst")
        app = AppTest.from_file(ROOT / "viewer/navigation/main.py", default_timeout=60).run()
        app.switch_page(f"../pages/{page}.py")
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception, app.exception[0].stack_trace
        return app

    return opened


@pytest.fixture
def lake_with_failure(full_lake: TestLake) -> TestLake:
    """The finished lake, and a file in it that is no slide."""
    broken = full_lake.root.parent / "broken.tif"
    broken.write_bytes(b"no slide at all")
    full_lake("ingest", str(broken))
    return full_lake


@pytest.fixture(scope="session")
def compared_once(finished: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished lake with three measured models: the champion, one like it before it, one split by patch."""
    lake = TestLake(Path(shutil.copytree(finished[1] / "lake", tmp_path_factory.mktemp("compared") / "lake")))
    lake.ok("train", "--encoder", "tiny", "--calibration", "temperature")
    lake.ok("predict")
    lake.ok("evaluate")
    other = lake.ok("train", "--encoder", "tiny", "--protocol", "patch_random", "--json").json()["model_id"]
    lake.ok("predict", "--model", other)
    lake.ok("evaluate", "--model", other)
    return lake.root


@pytest.fixture
def compared(compared_once: Path, tmp_path: Path) -> TestLake:
    """A copy of that lake, to write to: at a path of its own, for MLflow keeps files open."""
    return TestLake(Path(shutil.copytree(compared_once, tmp_path / "compared")))


# -- the app in a browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; without one the test fails, for a skipped test protects nobody."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("no Chromium on this machine: install it with `apt-get install -y chromium`")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Of a file, and no longer: while it is open nothing else here may run asyncio."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def found_slides(finished: tuple[Path, Path]) -> None:
    """The slides of the finished lake are where its tables say; a test of another file may have moved them."""
    now, kept = finished
    shutil.rmtree(now)
    shutil.copytree(kept, now)


@pytest.fixture(scope="module")
def shown_lake(found_slides: None, finished: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> TestLake:
    """The lake that the browser is shown by all tests of a file, which only look; others have one of their own."""
    return TestLake(Path(shutil.copytree(finished[1] / "lake", tmp_path_factory.mktemp("shown") / "lake")))


@pytest.fixture(scope="module")
def address(shown_lake: TestLake) -> Iterator[str]:
    """The address of the app, which runs for all tests of a file."""
    with served(shown_lake.root) as address:
        yield address


@pytest.fixture
def console_errors() -> list[str]:
    """What the browser's console complained of: none may be left when a test ends."""
    return []


@pytest.fixture
def page(browser: Browser, address: str, console_errors: list[str]) -> Iterator[Page]:
    """The app in a browser that nobody has used before, and whose console must stay free of errors."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    page.on("console", lambda message: console_errors.append(message.text) if is_ours(message) else None)
    page.on("pageerror", lambda error: console_errors.append(str(error)))
    page.goto(address)
    yield page
    page.context.close()
    assert console_errors == []
