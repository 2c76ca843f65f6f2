"""Commands killed at chosen points and resumed, and what a kill leaves: nothing is lost, doubled or half there."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from delta_writers import write
from support import TestLake, run, write_slide

from lake import connect, creation, encoders, maintenance, mlflow_place, models, sql_files, store
from lake.commits import Committer
from lake.pipeline import plan
from lake.table_files import bucket_of
from lake.tables import TABLES
from lake.units import Result, Unit


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_chosen_point_and_resumed_the_tables_equal_an_undisturbed_lakes(
    tmp_path: Path, tiny_onnx: Path
) -> None:
    """A short form of `make chaos`: each chosen point once."""
    slides = tmp_path / "slides"
    slides.mkdir()
    rows = ["slide_id,split"]
    for number in range(12):
        tumor = (192, 192, 96 + 16 * number, 192) if number % 3 else None
        write_slide(slides / f"s{number:02d}.tif", tissue=(96, 96, 384, 384), tumor=tumor, size=(576, 576), mpp=0.972)
        rows.append(f"s{number:02d},{('train', 'train', 'validation', 'test')[number % 4]}")
    (slides / "manifest.csv").write_text("\n".join(rows) + "\n")
    words = [sys.executable, "bench/chaos.py", "--short", "--slides", str(slides), "--onnx", str(tiny_onnx)]
    done = run(words, timeout=800, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert sum(each["kills"] for each in told["kills"]) >= 8, told
    assert told["missed"] <= 1, told  # that at a random moment may come too late
    assert told["different_rows"] == {"lost": 0, "other": 0, "doubled": 0}, done.stdout
    assert told["half_units"] == []
    assert told["broken_promises"] == []
    assert told["rows"] > 1000
    assert told["strays"] > told["strays_after_maintain"] == 0


def die_in(code: str, *arguments: str) -> None:
    """Run code in a process of its own, in which `die` is what kills it."""
    head = """
    import os, signal, sys
    from pathlib import Path
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
    """
    words = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), *arguments]
    ended = run(words)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_table_whose_making_was_killed_before_its_first_commit_is_made(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    for name in ("runs", "slides"):
        (root / name / "_delta_log").mkdir(parents=True)
    (root / "slides" / "_delta_log" / "00000000000000000000.json#1").write_text("half a com")
    assert not store.is_lake(root)
    creation.create(root)
    assert connect(root, udfs=()).table("slides").pl().is_empty()


def test_the_encoder_that_was_asked_for_is_kept_also_when_the_run_is_killed_while_it_is_added(tmp_path: Path) -> None:
    creation.create(tmp_path / "lake")
    code = """
    from lake import encoders, storage
    storage.keep = die
    encoders.choose(Path(sys.argv[1]), "efficientnet_lite0", "test")
    """
    die_in(code, str(tmp_path / "lake"))
    spec, _ = encoders.choose(tmp_path / "lake", "efficientnet_lite0", "test")
    assert store.setting(tmp_path / "lake", "encoder_id") == spec.encoder_id
    assert encoders.choose(tmp_path / "lake", None, "test")[1] == "the lake uses it"


@pytest.mark.parametrize("statement", [pytest.param(1, marks=pytest.mark.slow), 60])
def test_training_goes_on_where_the_making_of_mlflows_database_was_killed(tmp_path: Path, statement: int) -> None:
    """MLflow cannot open a database that has some of its tables; it has to be whole or not there."""
    creation.create(tmp_path / "lake")
    code = """
    from alembic.ddl.impl import DefaultImpl
    from lake import models
    whole, calls = DefaultImpl._exec, []
    def exec(*args, **named):
        calls.append(args)
        return die() if len(calls) == int(sys.argv[2]) else whole(*args, **named)
    DefaultImpl._exec = exec
    models.tracking(Path(sys.argv[1]))
    """
    die_in(code, str(tmp_path / "lake"), str(statement))
    client = models.tracking(tmp_path / "lake")
    assert client.get_experiment_by_name(mlflow_place.NAME) is not None


def test_what_a_killed_writer_had_begun_is_deleted_by_maintain_a_day_later(tmp_path: Path) -> None:
    root = tmp_path / "lake in a folder with spaces"
    creation.create(root)
    for number in range(2):
        write(root, f"s{number}", 3)
    begun = [
        root / "predictions" / "bucket=0" / "part-1.snappy.parquet#1",
        root / "predictions" / "_delta_log" / "00000000000000000003.json#1",
    ]
    for file in begun:
        file.write_bytes(b"half a file")
    assert maintained(root).files_deleted == 0  # a writer may be at it
    for file in begun:
        os.utime(file, (time.time() - 25 * 3600,) * 2)
    assert [each.files_deleted for each in maintenance.plan(root, ["predictions"], keep_hours=24)] == [2]
    done = maintained(root)
    assert (done.files_deleted, done.bytes_freed) == (2, 22)
    assert not any(file.exists() for file in begun)
    assert store.rows(root, "predictions").height == 6


def maintained(root: Path) -> maintenance.Done:
    [done] = maintenance.maintain(root, ["predictions"], keep_hours=24)
    return done


def test_a_slide_that_was_broken_and_is_mended_is_registered_again(lake: TestLake, tmp_path: Path) -> None:
    """The row of the broken file had replaced that of the whole one, which the ledger still called done."""
    file = write_slide(tmp_path / "one.tif")
    whole = file.read_bytes()
    lake.ok("ingest", str(file))
    file.write_bytes(whole[:3000])
    assert lake("ingest", str(file)).status == 1
    assert lake.read("slides")["status"].to_list() == ["failed"]
    file.write_bytes(whole)
    lake.ok("ingest", str(file))
    assert lake.read("slides")["status"].to_list() == ["ok"]


def test_which_of_two_writers_came_last_their_commits_tell_and_not_their_clocks(tmp_path: Path) -> None:
    """The file changed while one was at it: it replaced what the other had made of the new one."""
    root, stage = tmp_path / "lake", sql_files.stages()["features"]
    creation.create(root)
    identity = {"patch_set": "p", "encoder_id": "e"}
    slide = {**dict.fromkeys(TABLES["slides"].schema.names), "slide_id": "a", "status": "ok", "fingerprint": "new"}
    store.put(root, "slides", [slide], "test")
    tiling = {**dict.fromkeys(TABLES["patch_sets"].schema.names), "patch_set": "p", "tiling": "grid"}
    store.put(root, "patch_sets", [tiling], "test")
    patches = Committer(root, sql_files.stages()["patches"], {}, "test", {})
    patches.add(made("patches", {"patch_set": "p"}, "new", has_parts=False))
    patches.flush()
    writers = {mark: Committer(root, stage, {}, mark, {}) for mark in ("new", "old")}
    for mark, writer in writers.items():  # the new one first
        writer.add(made("features", identity, mark))
        writer.flush()
    entries = store.rows(root, "runs").filter(stage="features")
    assert entries.sort("table_version")["run_id"].to_list() == ["new", "old"]
    table = store.open_table(root, "runs")
    table.delete("stage = 'features'")
    earlier = {"new": datetime(2026, 1, 2, tzinfo=UTC), "old": datetime(2026, 1, 1, tzinfo=UTC)}
    again = [{**row, "finished_at": earlier[row["run_id"]].isoformat()} for row in entries.to_dicts()]
    store.record(root, [store.Entry(**row) for row in again])
    with connect(root, udfs=()) as con:
        assert con.table("slide_features").pl().is_empty()
        planned = plan(con, stage, {**identity, "input_px": 16}, (), False)
    assert [unit.fingerprint for unit in planned] == ["new"]


def made(name: str, identity: dict[str, str], mark: str, has_parts: bool = True) -> Result:
    """A row of a unit of slide a, as it was made of the file of that fingerprint."""
    table = TABLES[name]
    row = {**dict.fromkeys(table.schema.names), **identity, "slide_id": "a", "part": 0, "x": 0, "y": 0}
    row |= {"fingerprint": mark, "bucket": bucket_of("a")}
    unit = Unit("a", json.dumps(identity, separators=(",", ":")), 0, has_parts, mark, bucket_of("a"), 1)
    return Result(unit, pa.Table.from_pylist([row], schema=table.schema), 0, None, 0.1)
