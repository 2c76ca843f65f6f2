"""Half a minute of mixed load: what is asked for is answered, and what lives long stays as large as it was."""

from __future__ import annotations

import json
import sys

import pytest
from support import run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted as Linux knows them")
def test_memory_handles_and_threads_stay_flat_under_mixed_load() -> None:
    """A short form of `make soak`."""
    done = run([sys.executable, "bench/soak.py", "--short"], timeout=800)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert all(
        told["done"].get(name) for name in ("ingest", "run", "predict", "pages", "tiles", "heatmaps", "reads")
    ), told
    for process in ("app", "reader"):
        handles = told[process]["handles"]
        assert handles["after"] - handles["before"] < 32, told  # readers of slides start as they are needed
        threads = told[process]["threads"]
        assert threads["after"] - threads["before"] < 64, told  # Delta's threads come with reads, and go 10 s later
        assert told[process]["processes"]["is_flat"], told
        grown = told[process]["rss_mb"]["after"] - told[process]["rss_mb"]["before"]
        assert grown < 150, told  # caches fill in so short a time; `make soak` asks for more
