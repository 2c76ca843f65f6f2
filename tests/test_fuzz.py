"""All that reads what strangers wrote, on bytes that Hypothesis spoils; bench/fuzz.py does it for hours, by atheris."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ROOT
from test_docs import load

targets = load(ROOT / "bench/fuzz_targets.py")
LONG = ("skops", "routes")  # which take longest; the target "encoder" takes a process for each input
QUICK = [
    pytest.param(name, marks=pytest.mark.slow) if name in LONG else name
    for name in targets.TARGETS
    if name != "encoder"
]

FRAGMENTS = [
    *(
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\x80",
        b"\n",
        b'"',
        b"'",
        b"<",
        b"&#x0;",
        b"]]>",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e308",
        b"-1e999",
        b"9" * 400,
        b"\\ud800",
        b"..",
        b"/",
        b"%00",
        b"=1+1",
    ),
    *(b"[[[[[[[[[[", b'{"a":[', b"<a><a><a>", b'"id":[1],', b'"type":{},', b"\xe2\x80\xae", b"\x1b[2J"),
]
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8))),
    max_size=4,
)


@pytest.fixture(scope="module", autouse=True)
def unchanged_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The target of routes names its own lake in the environment, in a folder of the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOLAKE_LAKE", "")
        patch.setattr(targets.tempfile, "tempdir", str(tmp_path_factory.mktemp("fuzz")))
        yield


def spoiled(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """The bytes after each change: at a place, given as a fraction of the length, some are replaced by others."""
    for place, removed, put in changes:
        at = round(place * len(content))
        content = content[:at] + put + content[at + removed :]
    return content


@pytest.mark.parametrize("name", QUICK)
@settings(derandomize=True, max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_the_bytes_are_there_is_an_answer(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    target, folder = targets.TARGETS[name], tmp_path_factory.getbasetemp()
    seed = data.draw(st.sampled_from(target.seeds()))
    target.attempt(spoiled(seed, data.draw(edits)), folder)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_fuzzing_begins_from_is_answered(name: str, tmp_path: Path) -> None:
    for seed in targets.TARGETS[name].seeds():
        targets.TARGETS[name].attempt(seed, tmp_path)


def test_a_target_tells_a_long_answer_and_one_of_several_lines() -> None:
    for text in ("a\nb", "x" * 2000, ""):
        with pytest.raises(targets.Broken), targets.refused():
            raise targets.HistolakeError(text)


@pytest.mark.slow
def test_the_fuzzer_counts_what_it_tried_and_keeps_what_broke(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: it has no wheel for this Python")
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/fuzz_child.py"), "ncrf", "2", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "stat::number_of_executed_units" in done.stderr
    assert not list(tmp_path.glob("crash-*"))


def test_the_figures_on_the_page_are_those_that_were_measured() -> None:
    kept = json.loads((ROOT / "bench/fuzz.json").read_text(encoding="utf-8"))
    assert set(kept["targets"]) == set(targets.TARGETS)
    page = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    for each in kept["targets"].values():
        assert each["broken"] == 0
        assert f"{each['inputs']:,} inputs in {each['seconds']} s" in page
