"""The routes that serve tiles and thumbnails, asked over HTTP; and the cache behind them."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_server import serving
from starlette.applications import Starlette
from support import ROOT, SHARED, TestLake, free_port, until, write_slide

from lake import creation, store
from lake.tables import TABLES
from udfs import slide_process
from udfs.deep_zoom import DeepZoom
from udfs.slide import Area, dimensions, file_state, read_area
from udfs.slide_readers import readers
from viewer import tiles
from viewer.pictures import Pictures
from viewer.routes import ROUTES

SIZE = (1024, 768)  # of support.write_slide
TOP = DeepZoom(Area(0, 0, *SIZE)).levels - 1

Get = Callable[..., httpx.Response]


async def fetch(*paths: str, method: str = "GET", **headers: str) -> list[httpx.Response]:
    """The server's answers to requests that are made at once."""
    transport = httpx.ASGITransport(Starlette(routes=ROUTES))
    async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=60) as client:
        return await asyncio.gather(*(client.request(method, path, headers=headers) for path in paths))


@pytest.fixture
def get(lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> Get:
    """`get(path)`: the answer of an app that was started on the empty lake."""
    monkeypatch.setenv("HISTOLAKE_LAKE", str(lake.root))
    monkeypatch.setattr(tiles, "_pictures", Pictures(tiles.WORKERS, tiles.KEPT_BYTES))

    def one(path: str, **headers: str) -> httpx.Response:
        return asyncio.run(fetch(path, **headers))[0]

    return one


def add(lake: TestLake, slide_id: str, path: Path | str, **values: Any) -> None:
    """Put a slide into the lake as `histolake ingest` would find it, except for `values`."""
    size = dict(zip(("width", "height"), dimensions(str(path)), strict=True)) if "width" not in values else {}
    row = dict.fromkeys(TABLES["slides"].schema.names) | {
        "slide_id": slide_id,
        "path": str(path),
        "fingerprint": "f",
        "split": "test",
        "status": "ok",
    }
    store.put(lake.root, "slides", [row | size | values], "test")


def tile_path(slide_id: str, level: int = TOP, column: int = 0, row: int = 0) -> str:
    return f"/histolake/tiles/{quote(slide_id)}/{level}/{column}_{row}.jpeg"


def pixels(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def error(answer: httpx.Response) -> tuple[int, str]:
    assert "Traceback" not in answer.text
    return answer.status_code, answer.json()["error"]


@pytest.fixture
def slide(lake: TestLake, tmp_path: Path) -> str:
    path = write_slide(tmp_path / "one.tif", tumor=(320, 192, 256, 256))
    add(lake, "one", path)
    return str(path)


def test_every_tile_shows_what_the_slide_has_there(get: Get, slide: str) -> None:
    pyramid = DeepZoom(Area(0, 0, *SIZE))
    for level in (TOP, TOP - 1, TOP - 2, 0):
        for column in range(pyramid.grid(level)[0]):
            for row in range(pyramid.grid(level)[1]):
                area, (width, height) = pyramid.tile(level, column, row)
                shown = pixels(get(tile_path("one", level, column, row)))
                assert shown.shape == (height, width, 3)
                assert abs(shown - read_area(slide, area, width, height)).mean() < 6


def test_a_real_slides_tiles_are_its_pixels(get: Get, lake: TestLake) -> None:
    path = SHARED / "data/slides/CMU-1-Small-Region.svs"
    if not path.is_file():
        pytest.skip(f"the real slide is not here: {path}")
    add(lake, "CMU-1-Small-Region", path)
    shown = pixels(get(tile_path("CMU-1-Small-Region", 12, 4, 5)))
    assert abs(shown - read_area(str(path), Area(4 * 254 - 1, 5 * 254 - 1, 256, 256), 256, 256)).mean() < 6
    assert pixels(get("/histolake/thumbnails/CMU-1-Small-Region.jpeg")).shape == (256, 192, 3)


def test_the_pyramid_covers_the_scanned_area(get: Get, lake: TestLake, slide: str) -> None:
    bounds = Area(230, 110, 600, 500)
    add(lake, "bounded", slide, bounds_x=230, bounds_y=110, bounds_width=600, bounds_height=500)
    level = DeepZoom(bounds).levels - 1
    shown = pixels(get(tile_path("bounded", level, 1, 0)))
    assert abs(shown - read_area(slide, Area(230 + 253, 110, 256, 255), 256, 255)).mean() < 6
    assert get(tile_path("bounded", level, 2, 1)).status_code == 200
    assert get(tile_path("bounded", level, 3, 0)).status_code == 404
    thumbnail = pixels(get("/histolake/thumbnails/bounded.jpeg"))
    assert thumbnail.shape == (213, 256, 3)
    assert abs(thumbnail - read_area(slide, bounds, 256, 213)).mean() < 6


def test_what_was_not_scanned_is_white(get: Get, lake: TestLake, slide: str) -> None:
    add(lake, "beyond", slide, bounds_x=900, bounds_y=700, bounds_width=400, bounds_height=300)
    shown = pixels(get(tile_path("beyond", 9, 0, 0)))
    assert (shown[:, 140:] == 255).all()
    assert (shown[80:] == 255).all()
    assert 200 < shown[:60, :110].mean() < 250


def test_a_thumbnail_is_at_most_256_px_wide_and_high(get: Get, lake: TestLake, tmp_path: Path) -> None:
    for name, size, expected in (("wide", (1024, 300), (75, 256)), ("small", (100, 60), (60, 100))):
        add(lake, name, write_slide(tmp_path / f"{name}.tif", size=size, tissue=(10, 10, 40, 40)))
        assert pixels(get(f"/histolake/thumbnails/{name}.jpeg")).shape == (*expected, 3)


def test_a_slide_id_may_hold_anything(get: Get, lake: TestLake, slide: str) -> None:
    for slide_id in (
        "a b",
        "50%",
        "%41",
        "ü😐",
        "a/b/c",
        "12/3_4.jpeg",
        "q?x=1#y",
        'O\'Brien & "co"',
        "a..b",
        "+",
        "a\\b",
    ):
        add(lake, slide_id, slide)
        assert pixels(get(tile_path(slide_id))).shape == (255, 255, 3)
        assert pixels(get(f"/histolake/thumbnails/{quote(slide_id, safe='')}.jpeg")).shape == (192, 256, 3)


def test_only_slides_of_the_lake_are_served(get: Get, slide: str) -> None:
    for name in ("two", "..%2Fone", "%2Fetc%2Fpasswd", "one.tif", "one%00", "%252e%252e/one", ""):
        for path in (f"/histolake/tiles/{name}/{TOP}/0_0.jpeg", f"/histolake/thumbnails/{name}.jpeg"):
            status, sentence = error(get(path))
            assert status == 404
            assert sentence.startswith(f"slide {unquote(name)}: not in the lake")


def test_a_path_of_a_slide_is_not_its_name(get: Get, slide: str) -> None:
    assert get(tile_path(slide)).status_code == 404


def test_a_tile_outside_the_pyramid_is_not_found(get: Get, slide: str) -> None:
    for address in ((TOP + 1, 0, 0), (TOP, 5, 0), (TOP, 0, 4), (10**9 - 1, 0, 0), (0, 1, 0)):
        status, sentence = error(get(tile_path("one", *address)))
        assert status == 404
        assert sentence.startswith("slide one: ")


def test_a_tile_of_no_pyramid_is_no_address(get: Get, slide: str) -> None:
    assert get(tile_path("one", 10**9, 0, 0)).status_code == 404


def test_a_slide_is_found_as_soon_as_it_is_in_the_lake_and_no_longer(get: Get, lake: TestLake, slide: str) -> None:
    assert get(tile_path("later")).status_code == 404
    add(lake, "later", slide)
    assert get(tile_path("later")).status_code == 200
    kept = lake.root.rename(lake.root.with_name("elsewhere"))
    creation.create(lake.root)  # another lake in its place
    assert get(tile_path("later")).status_code == 404
    assert kept.is_dir()


def test_without_a_lake_the_answer_is_a_sentence(get: Get, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HISTOLAKE_LAKE", str(tmp_path / "nowhere"))
    status, sentence = error(get(tile_path("one")))
    assert status == 500
    assert "histolake ingest" in sentence


def test_a_browser_that_has_a_tile_is_told_that_it_is_still_right(get: Get, slide: str) -> None:
    first = get(tile_path("one"))
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    again = get(tile_path("one"), **{"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert get(tile_path("one"), **{"If-None-Match": '"another"'}).content == first.content
    head = asyncio.run(fetch(tile_path("one"), method="HEAD"))[0]
    assert (head.status_code, head.headers["etag"]) == (200, tag)


def test_a_changed_file_is_not_served_from_the_cache(get: Get, lake: TestLake, slide: str, tmp_path: Path) -> None:
    before = get(tile_path("one", TOP, 1, 1))
    shutil.copy(write_slide(tmp_path / "other.tif", tumor=(256, 128, 500, 500)), slide)
    after = get(tile_path("one", TOP, 1, 1), **{"If-None-Match": before.headers["etag"]})
    assert abs(pixels(after) - pixels(before)).mean() > 20
    add(lake, "one", slide, fingerprint="g")
    assert get(tile_path("one", TOP, 1, 1)).headers["etag"] not in (before.headers["etag"], after.headers["etag"])


def test_a_slide_on_a_server_has_no_picture_until_it_was_opened(
    get: Get, lake: TestLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    path = write_slide(tmp_path / "served" / "far.tif")
    with serving(path.parent) as server:
        add(lake, "far", server.url("far.tif"))
        readers.close()
        monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "another"))
        server.requests.clear()
        for asked in (tile_path("far"), "/histolake/thumbnails/far.jpeg"):
            status, sentence = error(get(asked))
            assert status == 404
            assert "opening it in the viewer fetches it" in sentence
        assert server.requests == []
        file_state(server.url("far.tif"))
        assert get(tile_path("far")).status_code == get("/histolake/thumbnails/far.jpeg").status_code == 200
        assert len(server.wholes("far.tif")) == 1


def test_a_file_that_was_moved_is_named_with_the_remedy(get: Get, slide: str) -> None:
    assert get(tile_path("one")).status_code == 200
    Path(slide).rename(f"{slide}.moved")
    for path in (tile_path("one"), "/histolake/thumbnails/one.jpeg"):
        status, sentence = error(get(path))
        assert status == 404
        assert slide in sentence
        assert "histolake ingest" in sentence
    Path(f"{slide}.moved").rename(slide)
    assert get(tile_path("one")).status_code == 200


def test_a_slide_that_was_never_opened_says_why(get: Get, lake: TestLake, slide: str) -> None:
    add(lake, "bad", "bad.tif", width=None, height=None, status="failed", error="bad.tif: no slide; convert it")
    assert error(get(tile_path("bad"))) == (500, "slide bad: cannot be shown: bad.tif: no slide; convert it")
    assert get(tile_path("one")).status_code == 200


def test_a_corrupt_tile_spoils_neither_its_neighbours_nor_other_slides(
    get: Get, lake: TestLake, slide: str, tmp_path: Path
) -> None:
    torn = write_slide(tmp_path / "torn.tif")
    with tifffile.TiffFile(torn) as tiff:
        page = tiff.pages[0].aspage()
        offset, length = page.dataoffsets[5], page.databytecounts[5]  # of 4 x 3: the second of the second row
    with torn.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(length))
    add(lake, "torn", torn)
    whole = [tile_path("torn", TOP, 3, 0), tile_path("torn", TOP, 3, 2), tile_path("one", TOP, 1, 1)]
    alone = [get(path) for path in whole]
    assert [pixels(answer).shape for answer in alone] == [(255, 256, 3), (256, 256, 3), (256, 256, 3)]
    tiles._pictures = Pictures(tiles.WORKERS, tiles.KEPT_BYTES)
    answers = asyncio.run(fetch(*[tile_path("torn", TOP, 1, 1), *whole] * 4))
    for number, answer in enumerate(answers):
        if number % 4:
            assert answer.content == alone[number % 4 - 1].content
        else:
            status, sentence = error(answer)
            assert status == 500
            assert str(torn) in sentence
            assert "copy or convert the slide again" in sentence
    assert get(tile_path("torn", TOP, 3, 0)).content == answers[1].content


def test_eight_readers_at_once_see_what_one_sees(get: Get, lake: TestLake, slide: str, tmp_path: Path) -> None:
    add(lake, "two", write_slide(tmp_path / "two.tif", tumor=(300, 150, 300, 300)))
    paths = [tile_path(name, TOP, column, row) for name in ("one", "two") for column in range(5) for row in range(4)]
    alone = {path: get(path).content for path in paths}
    tiles._pictures = Pictures(tiles.WORKERS, tiles.KEPT_BYTES)
    answers = asyncio.run(fetch(*paths * 8))
    assert [answer.content for answer in answers] == [alone[path] for path in paths * 8]
    assert len(set(alone.values())) > 20


HANGS = """
import time
from udfs import slide_pixels, slide_reader

read = slide_pixels.Slides.read
slide_pixels.Slides.read = lambda *words: time.sleep(3600) if "hung" in words[1] else read(*words)
slide_reader.main()
"""


def test_a_slide_that_hangs_does_not_hold_up_another(
    get: Get, lake: TestLake, slide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(lake, "hung", write_slide(tmp_path / "hung.tif"))
    monkeypatch.setattr(slide_process, "COMMAND", (sys.executable, "-P", "-c", HANGS))
    readers.close()

    async def ask() -> None:
        paths = [tile_path("hung", TOP, column, row) for column in range(4) for row in range(3)]
        hung = asyncio.create_task(fetch(*paths))
        while len(readers._lent) < tiles.OF_A_SLIDE:
            await asyncio.sleep(0.05)
        assert (await fetch(tile_path("one")))[0].status_code == 200
        assert not hung.done()
        while not hung.done():
            readers.stop()
            await asyncio.sleep(0.05)

    asyncio.run(ask())


TELLING = """
import socket, sys
from starlette.responses import JSONResponse
from starlette.routing import Route
from streamlit.web import cli
from viewer import routes

async def no_delay(request):
    connection = request.receive.__self__.transport.get_extra_info("socket")
    return JSONResponse(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

routes.ROUTES.append(Route("/no-delay", no_delay))
sys.exit(cli.main())
"""
"""Streamlit, with a route more in the app that tells how its own answer is sent."""


def test_answers_are_sent_at_once(tmp_path: Path) -> None:
    """With Nagle's algorithm the browser would wait 40 ms for every tile."""
    port = free_port()
    command = [sys.executable, "-c", TELLING, "run", "app.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    environment = {**os.environ, "HISTOLAKE_LAKE": str(tmp_path / "no lake")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: is_listening(port) or server.poll() is not None, "streamlit listens")
            assert server.poll() is None, f"streamlit ended with {server.returncode}"
            answer = httpx.get(f"http://127.0.0.1:{port}/no-delay", timeout=60)
        finally:
            server.kill()
    assert answer.json() == 1


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# -- the cache


def got(pictures: Pictures, *wanted: tuple[str, Callable[[], bytes]], is_given_up: bool = False) -> list[bytes | None]:
    async def given_up() -> bool:
        return is_given_up

    async def all_at_once() -> list[bytes | None]:
        return await asyncio.gather(*(pictures.get(key, make, given_up) for key, make in wanted))

    return asyncio.run(all_at_once())


def test_the_cache_keeps_the_latest_used_within_its_bytes() -> None:
    pictures, made = Pictures(2, 100), []

    def ask(key: str) -> None:
        def make() -> bytes:
            made.append(key)
            return key.encode() * 40

        assert got(pictures, (key, make)) == [key.encode() * 40]
        assert pictures.kept_bytes <= 100

    for key in "aabaca":  # b is the least recently used when c comes
        ask(key)
    assert made == ["a", "b", "c"]
    ask("b")
    assert made == ["a", "b", "c", "b"]
    assert got(pictures, ("large", lambda: bytes(101))) == [bytes(101)]
    assert pictures.kept_bytes <= 100


def test_what_many_ask_for_at_once_is_made_once() -> None:
    made = []

    def make() -> bytes:
        made.append(threading.current_thread().name)
        time.sleep(0.05)
        return b"picture"

    assert got(Pictures(2, 100), *[("key", make)] * 20) == [b"picture"] * 20
    assert len(made) == 1
    assert made[0].startswith("pictures")


def test_no_more_are_made_at_a_time_than_there_are_workers() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def make() -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return b"x"

    got(Pictures(3, 100), *[(str(number), make) for number in range(20)])
    assert most == 3


def test_what_nobody_waits_for_any_more_is_not_made() -> None:
    made: list[bool] = []

    def make() -> bytes:
        made.append(True)
        return b"picture"

    pictures = Pictures(1, 100)
    assert got(pictures, ("key", make), is_given_up=True) == [None]
    assert not made
    assert got(pictures, ("key", make)) == [b"picture"]


def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    def fail() -> bytes:
        time.sleep(0.02)
        raise ValueError("torn")

    pictures = Pictures(2, 100)
    with pytest.raises(ValueError, match="torn"):
        got(pictures, *[("key", fail)] * 3)
    assert got(pictures, ("key", lambda: b"mended")) == [b"mended"]
