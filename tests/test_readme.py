"""What README says is so: its demo, its transcript, its queries."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support import ROOT, run, run_command
from test_docs import load

from lake import connect, creation, encoders, store
from lake.tables import AUDIT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

README = (ROOT / "README.md").read_text(encoding="utf-8")
transcript = load(ROOT / "docs/transcript.py")

COLUMNS = [  # of README's queries, in its order
    ["slide_id", "split", "patches", "mean_tissue"],
    ["slide_id", "x", "y", "span_x", "span_y", "probability"],
    ["slide_id", "split", "patches", "accuracy"],
    ["finished_at", "stage", "slide_id", "status", "errors", "error"],
    ["slide_id", "x", "y", "similarity"],
]


@dataclass(frozen=True)
class Demo:
    """A folder in which the demo ran, and the processor seconds that it took."""

    folder: Path
    seconds: float

    @property
    def lake(self) -> Path:
        return self.folder / "demo/lake"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `histolake WORDS` in the folder."""
        program = Path(sys.executable).with_name("histolake")
        return run([program, *words], cwd=self.folder, timeout=500)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, with the encoder of the transcript, whatever else this machine could fetch."""
    demo = Demo(tmp_path_factory.mktemp("readme"), 0)
    creation.create(demo.lake)
    encoders.choose(demo.lake, "efficientnet_lite0", store.new_run_id())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = demo.run("demo")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return Demo(demo.folder, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def test_the_demo_takes_less_than_three_minutes_of_one_processor(demo: Demo) -> None:
    assert demo.seconds < 180


def test_the_demo_fills_the_tables_and_keeps_every_promise(demo: Demo) -> None:
    for table in ("slides", "annotations", "patches", "labels", "features", "models", "predictions", "metrics"):
        assert not store.rows(demo.lake, table).is_empty(), table
    assert store.rows(demo.lake, "runs").filter(pl.col("status") == "failed").is_empty()
    checked = demo.run("check", "--lake", "demo/lake")
    assert checked.returncode == 0, checked.stdout


def test_the_demo_draws_a_heatmap_of_every_test_slide(demo: Demo) -> None:
    slides = store.rows(demo.lake, "slides").filter(split="test")["slide_id"].sort().to_list()
    drawn = sorted((demo.folder / "demo/heatmaps").glob("*.png"))
    assert [path.stem for path in drawn] == slides
    for path in drawn:
        assert np.asarray(Image.open(path)).std() > 10, f"{path} shows nothing"


def test_a_second_demo_has_nothing_to_do_and_writes_no_table(demo: Demo) -> None:
    def commits() -> list[Path]:
        """Of all tables but the audit's: that pictures were drawn again is recorded."""
        return sorted(each for each in demo.lake.glob("*/_delta_log/*.json") if AUDIT.name not in each.parts)

    before = commits()
    again = demo.run("demo")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert commits() == before


def test_the_transcript_prints_what_readme_shows(demo: Demo) -> None:
    said = transcript.transcript(README)
    printed = transcript.run([command for command, _ in said], demo.folder)
    assert len(printed) == len(said) > 3
    for (command, before), (_, now) in zip(said, printed, strict=True):
        assert transcript.difference(before, now) is None, command


def test_a_transcript_that_differs_is_found() -> None:
    table = "│ test │ 109 │ 0.99 │\n"
    assert transcript.difference(table, "│ test    │     112 │  0.97 │\n") is None
    assert "0.5" in transcript.difference(table, "│ test │ 109 │ 0.5 │\n")
    assert "train" in transcript.difference(table, "│ train │ 109 │ 0.99 │\n")
    assert transcript.difference(table, table + "more\n")
    assert transcript.difference(table, "")


@pytest.fixture(scope="module")
def with_failure(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's lake, whose ledger has a failure to tell of."""
    folder = tmp_path_factory.mktemp("failure")
    shutil.copytree(demo.lake, folder / "lake")
    (folder / "broken.tif").write_bytes(b"no slide")
    run_command("ingest", str(folder / "broken.tif"), "--lake", str(folder / "lake"))
    return folder / "lake"


@pytest.mark.parametrize("number", range(len(COLUMNS)))
def test_a_query_returns_what_readme_says(with_failure: Path, number: int) -> None:
    queries = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    assert len(queries) == len(COLUMNS)
    with connect(with_failure) as con:
        answer = con.sql(queries[number]).pl()
    assert answer.columns == COLUMNS[number]
    assert not answer.is_empty()
    for name in ("accuracy", "similarity", "probability", "mean_tissue"):
        if name in answer.columns:
            assert answer[name].is_between(0, 1).all()


def test_the_failures_name_slide_and_reason(with_failure: Path) -> None:
    with connect(with_failure) as con:
        row = con.sql(re.findall(r"```sql\n(.*?)```", README, re.DOTALL)[3]).pl().to_dicts()[0]
    assert (row["stage"], row["slide_id"]) == ("slides", "broken")
    assert "broken.tif" in row["error"]


def test_the_python_example_runs(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo.folder)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert "train" in capsys.readouterr().out


def test_readme_names_the_packages_that_make_names() -> None:
    (line,) = re.findall(r"^APT := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"`{line}`" in README


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^(?:make|histolake) [\w-]+(?: add)?", README, re.MULTILINE)))
)
def test_a_command_in_readme_exists(command: str) -> None:
    program, *words = command.split()
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    else:
        assert run_command(*words, "--help").status == 0
