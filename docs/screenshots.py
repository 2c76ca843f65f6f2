"""Pictures of the app's pages: `python docs/screenshots.py --lake demo/lake` writes them into docs/pictures/."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, Position, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
HEIGHT_PX = 900
FIRST_SLIDE: Position = {"x": 120, "y": 64}  # in the worklist's table, px
QUIET_MS = 2500  # after the network is: time for tiles and charts to be drawn
START_S = 60
LARGEST = 200_000  # bytes of a picture
COLORS = (256, 128, 64, 32)  # of a picture; fewer until it is small enough


def main() -> None:
    """Write a picture of every page that the app's navigation names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, default=ROOT / "demo" / "lake", help="by default that of `make demo`")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for the pictures")
    parser.add_argument("--width", type=int, default=1280, help="of the window, px")
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    arguments = parser.parse_args()
    if not (arguments.lake / "runs").is_dir():
        raise SystemExit(f"{arguments.lake}: no lake here; `make demo` makes one, --lake names another")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit("no Chromium on this machine: install it with `apt-get install -y chromium`")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with app(arguments.lake) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": arguments.width, "height": HEIGHT_PX},
            color_scheme="dark" if arguments.dark else "light",
        )
        page.set_default_timeout(START_S * 1000)
        for name, url in addresses(page, address).items():
            page.goto(url)
            settle(page)
            file = arguments.out / f"{name}{'-dark' if arguments.dark else ''}.png"
            file.write_bytes(small(page.screenshot()))
            print(f"{file}: {file.stat().st_size:,} bytes")
        browser.close()


@contextmanager
def app(lake: Path) -> Iterator[str]:
    """The app on a free port of this machine; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true", "--server.fileWatcherType", "none"]
    environment = {**os.environ, "HISTOLAKE_LAKE": str(lake.absolute())}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603 (own words)
    address = f"http://127.0.0.1:{port}"
    try:
        until_it_answers(f"{address}/_stcore/health", server)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait for the app's server."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (our own address)
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise SystemExit("the app did not start; `histolake app` tells why")


def addresses(page: Page, address: str) -> dict[str, str]:
    """The pages by name, as the app's own navigation lists them; the viewer with the worklist's first slide."""
    page.goto(address)
    page.wait_for_selector('[data-testid="stTopNavLink"]')
    settle(page)
    links = page.get_by_test_id("stTopNavLink").all()
    found = {link.inner_text().strip().lower(): str(link.evaluate("link => link.href")) for link in links}
    table = page.get_by_test_id("stDataFrame").first
    if "viewer" in found and table.count():
        table.click(position=FIRST_SLIDE)
        page.wait_for_url("**/viewer?slide=*")
        found["viewer"] = page.url
    return found


def settle(page: Page) -> None:
    """Wait until Python, the network and the browser have done their work."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(QUIET_MS)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def small(png: bytes) -> bytes:
    """The picture with as few colors as keep it below LARGEST bytes."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colors in COLORS:
        buffer = io.BytesIO()
        palette = image.quantize(colors, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        palette.save(buffer, "PNG", optimize=True)
        if buffer.tell() < LARGEST:
            break
    return buffer.getvalue()


if __name__ == "__main__":
    main()
