"""Times the app on a lake of 10 million predictions and writes docs/benchmarks.md: `python bench/app_speed.py`.

The real app is started on a free port and asked over HTTP, and in Chromium, as a browser would. What cannot be
measured is written down with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import app_lake
import numpy as np
import report
from app_browser import first_visit, in_browser
from app_figure import Figure
from app_slide import EDGE
from app_visit import is_up

from lake import session
from lake.choices import Peaks
from lake.slide_scores import TOP
from lake.sql_files import query
from udfs.deep_zoom import DeepZoom
from udfs.slide import Area

READERS = 8
VIEWS = 10  # places that each reader looks at, one after the other
VIEW = (6, 4)  # tiles on a screen
COARSEST = 9  # level of the pyramid that readers look at, of at least two tiles
START_S = 90
READ_AHEAD_S = 5
REPEATS = 5


def main() -> None:
    """Generate the lake, measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the generated lake here, or use the one that is here")
    folder = parser.parse_args().folder
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="histolake-bench-")))
        root = folder / "lake" if (folder / "lake").is_dir() else app_lake.write(folder)
        results = {
            "machine": f"{report.machine()}, load {os.getloadavg()[0]:.1f} before",
            "lake": contents(root),
            "figures": [vars(each) for each in figures(root)],
        }
    report.write("app_speed", results, "benchmarks.md", {"app": table(results)})


def table(results: dict[str, Any]) -> str:
    """The marked part of docs/benchmarks.md."""
    rows = [
        (
            each["what"],
            f"not measured: {each['reason']}" if each["seconds"] is None else _time(each["seconds"]),
            "" if each["target"] is None else _time(each["target"]),
        )
        for each in results["figures"]
    ]
    lake = results["lake"]
    about = (
        f"{lake['slides']:,} slides, {lake['predictions']:,} predictions in {lake['files']:,} files, "
        f"{lake['runs']:,} rows in the ledger; {results['machine']}."
    )
    return f"{report.grid(('what', 'time', 'target'), rows)}\n\n{about}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.2 else f"{seconds * 1000:.0f} ms"


def contents(root: Path) -> dict[str, int]:
    """How large the lake is."""
    with session.connect(root, udfs=()) as con:
        counts = {
            name: con.table(name).aggregate("count(*)").fetchall()[0][0] for name in ("slides", "predictions", "runs")
        }
    return {**counts, "files": len(list((root / "predictions").glob("*/*.parquet")))}


def figures(root: Path) -> list[Figure]:
    """Everything that is measured, in the order of the table."""
    heat = {"slide_id": app_lake.LARGE, "model_id": app_lake.MODEL, "patch_set": app_lake.PATCH_SET}
    listed = {**Peaks().parameters, "top": TOP}
    found = [
        Figure("opening the lake, once for every change of it", None, best(lambda: session.connect(root, udfs=())))
    ]
    with session.connect(root, udfs=()) as con:
        for what, target, name, parameters in (
            ("worklist of 1,000 slides: its query", 1, "app/worklist", listed),
            ("heatmap of 100,000 patches: its query", 0.5, "app/heatmap_tiles", heat),
        ):
            asked = partial(con.execute, query(name), parameters)
            found.append(Figure(what, target, best(lambda asked=asked: asked().pl())))  # type: ignore[misc]
    with started(root) as port:
        found += in_browser(port)
    with started(root, "bench/one_row.py") as port:
        found.append(first_visit(port, "a table of one row, by Streamlit alone: the same, first visit"))
    with started(root) as port:  # anew: the browser had it read the heatmap
        found += over_http(port)
    return found


def best(work: Callable[[], object]) -> float:
    """The least seconds of a few runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


# -- the app


@contextlib.contextmanager
def started(root: Path, page: str = "app.py") -> Iterator[int]:
    """The app, or another page, on a free port of this machine, until it has been measured."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", page, "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
    command += ["--server.fileWatcherType", "none", "--browser.gatherUsageStats", "false"]
    environment = {**os.environ, "HISTOLAKE_LAKE": str(root)}
    server = subprocess.Popen(command, cwd=report.ROOT, env=environment)  # noqa: S603
    try:
        deadline = time.monotonic() + START_S
        while not is_up(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the app did not start")
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def over_http(port: int) -> list[Figure]:
    """The routes of the app."""
    found = []
    heatmap_grid(port, "slide 0001")  # the app has the lake open,
    time.sleep(READ_AHEAD_S)  # and has read what it reads ahead
    first, again = heatmap_grid(port, app_lake.LARGE), heatmap_grid(port, app_lake.LARGE)
    found.append(Figure("heatmap of 100,000 patches: query and transfer", 0.5, *first))
    found.append(Figure("the same, asked again", 0.5, *again))
    rng = random.Random(0)  # noqa: S311
    views = [[view(rng) for _ in range(VIEWS)] for _ in range(READERS)]
    read_views(port, [[view(rng) for _ in range(2)] for _ in range(READERS)])  # the app has its slides open
    for what, times in (("read from the slide", read_views(port, views)), ("kept in memory", read_views(port, views))):
        found.append(Figure(f"tile, {what}: median", 0.025, statistics.median(times)))
        found.append(Figure(f"tile, {what}: 99th percentile", 0.15, float(np.percentile(times, 99))))
    return found


def heatmap_grid(port: int, slide_id: str) -> tuple[float | None, str]:
    """Seconds to get a slide's heatmap, or None with the reason."""
    path = f"/histolake/heatmaps/{quote(slide_id)}?model={app_lake.MODEL}&patch_set={app_lake.PATCH_SET}"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as asked:
        start = time.perf_counter()
        asked.request("GET", path)
        answer = asked.getresponse()
        answer.read()
        took = time.perf_counter() - start
    kind = answer.headers.get_content_type()
    if answer.status == 200 and kind == "application/octet-stream":
        return took, ""
    return None, f"the app answers {answer.status}, {kind}"


def view(rng: random.Random) -> list[str]:
    """Paths of the tiles that a screen shows of the largest slide, somewhere, at some level."""
    pyramid = DeepZoom(Area(0, 0, EDGE, EDGE))
    level = rng.randrange(COARSEST, pyramid.levels)
    columns, rows = pyramid.grid(level)
    across, down = min(VIEW[0], columns), min(VIEW[1], rows)
    left, top = rng.randrange(columns - across + 1), rng.randrange(rows - down + 1)
    return [
        f"/histolake/tiles/{app_lake.LARGE}/{level}/{column}_{row}.jpeg"
        for row in range(top, top + down)
        for column in range(left, left + across)
    ]


def read_views(port: int, views: list[list[list[str]]]) -> list[float]:
    """Seconds of every tile, when each reader asks for its tiles one after the other over its own connection."""
    ready = threading.Barrier(len(views))

    def read(own: list[list[str]]) -> list[float]:
        times = []
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as asked:
            ready.wait()
            for path in (path for tiles in own for path in tiles):
                start = time.perf_counter()
                asked.request("GET", path)
                answer = asked.getresponse()
                body = answer.read()
                times.append(time.perf_counter() - start)
                if answer.status != 200 or not body.startswith(b"\xff\xd8"):
                    raise RuntimeError(f"{path}: the app answers {answer.status}, {body[:200]!r}")
        return times

    with ThreadPoolExecutor(len(views)) as pool:
        return [took for times in pool.map(read, views) for took in times]


if __name__ == "__main__":
    main()
