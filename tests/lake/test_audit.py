"""The audit table: what it tells, what is found in it when it was tampered with, and what happens without it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from audit_writers import full_disk, someone, without_end, write
from deltalake import ColumnProperties, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from support import ROOT, TestLake, all_end, run, until

from lake import audit, audit_chain, cli_output, connect, creation, maintenance, models, reviews, store, upkeep
from lake.audit import Action, Deed
from lake.audit_chain import Link, anchor, chain, linked
from lake.audit_reading import verify
from lake.choices import Meaning
from lake.groups import set_meaning
from lake.places import Place
from lake.tables import AUDIT, TABLES
from udfs.errors import AuditError, LakeError

PEOPLE = ("ada", "grace", "ada", "linus", "ada", "grace")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake that `root` is a copy of."""
    root = tmp_path_factory.mktemp("audited") / "lake"
    creation.create(root)
    for number, name in enumerate(PEOPLE):
        audit.record(root, someone(name), Deed(Action.opened, f"slide_{number}"))
    return root


@pytest.fixture
def root(audited: Path, tmp_path: Path) -> Path:
    """A lake on whose audit table six rows are, each in a file."""
    return Path(shutil.copytree(audited, tmp_path / "lake"))


@pytest.fixture(scope="module")
def merged_once(audited: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake that `merged` is a copy of."""
    root = Path(shutil.copytree(audited, tmp_path_factory.mktemp("merged") / "lake"))
    only_file(root)
    assert problems(root) == []
    return root


@pytest.fixture
def merged(merged_once: Path, tmp_path: Path) -> Path:
    """The same lake, its six rows in one file."""
    return Path(shutil.copytree(merged_once, tmp_path / "lake"))


def rows(root: Path) -> pl.DataFrame:
    return store.rows(root, "audit").sort("sequence")


def problems(root: Path, tip: str | None = None) -> list[str]:
    return verify(root, tip).problems


def only_file(root: Path) -> Path:
    """The table as one file, which is then the only one that is read."""
    store.compact(root, "audit")
    [file] = store.open_table(root, "audit").file_uris()
    return Path(file)


# -- what is written


def test_a_row_says_who_did_what_when_and_on_which_versions(root: Path) -> None:
    versions = {"runs": 1, "slides": 0}
    deed = Deed(Action.exported, "O'Brien 🧫", "a\0b.csv", versions, {"rows": 3, "of": None})
    audit.record(root, audit.Who("s-1", None, None, "cli"), deed)
    row = rows(root).row(-1, named=True)
    assert datetime.now(UTC) - timedelta(minutes=1) < row.pop("recorded_at") <= datetime.now(UTC)
    assert json.loads(row.pop("versions")) == versions
    assert json.loads(row.pop("details")) == {"rows": 3, "of": None}
    assert row.pop("previous_hash") == rows(root)["hash"][-2]
    assert len(row.pop("hash")) == 64
    assert row == {
        "sequence": 7,
        "subject": "s-1",
        "name": None,
        "role": None,
        "via": "cli",
        "action": "exported",
        "slide_id": "O'Brien 🧫",
        "object": "a\0b.csv",
    }
    assert problems(root) == []


def test_by_default_the_versions_are_those_of_the_ledger_s_moment(root: Path) -> None:
    store.put(root, "settings", [{"name": "a", "value": "b"}], "test")
    audit.record(root, audit.user(), Deed(Action.opened, "a"))
    assert json.loads(rows(root)["versions"][-1]) == {"runs": store.open_table(root, "runs").version()}


def test_the_hash_is_what_the_documentation_says(root: Path) -> None:
    """Computed by other code: netstrings, "-" for NULL, microseconds since 1970."""
    previous = hashlib.sha256(f"15:histolake audit,36:{store.open_table(root, 'runs').metadata().id},".encode())
    hashes = [previous.hexdigest()]
    for row in rows(root).to_dicts():
        told = [row["previous_hash"], str(row["sequence"]), str(round(row["recorded_at"].timestamp() * 1e6))]
        names = ("subject", "name", "role", "via", "action", "slide_id", "object", "versions", "details")
        told += [row[name] for name in names]
        text = "".join("-" if each is None else f"{len(each.encode())}:{each}," for each in told)
        assert row["previous_hash"] == hashes[-1]
        hashes.append(hashlib.sha256(text.encode()).hexdigest())
        assert row["hash"] == hashes[-1]
    assert verify(root).tip == hashes[-1]


def test_text_that_is_no_text_and_very_long_text_are_kept_as_far_as_they_can(root: Path) -> None:
    audit.record(root, someone("ada"), Deed(Action.opened, os.fsdecode(b"slide_\xff")))
    audit.record(root, someone("ada"), Deed(Action.queried, object="x" * 10**6))
    assert rows(root)["slide_id"][-2] == r"slide_\udcff"
    assert rows(root)["object"][-1] == "x" * 100_000 + "… (1,000,000 characters)"
    assert problems(root) == []


def test_several_deeds_are_one_commit(root: Path) -> None:
    before = store.open_table(root, "audit").version()
    audit.record(root, someone("ada"), *[Deed(Action.exported, f"s{number}") for number in range(5)])
    assert rows(root)["slide_id"].to_list()[-5:] == [f"s{number}" for number in range(5)]
    assert store.open_table(root, "audit").version() == before + 1
    assert problems(root) == []


def test_threads_that_come_together_share_a_commit(root: Path) -> None:
    before, held = store.open_table(root, "audit").version(), chain(root)
    threads = [threading.Thread(target=write, args=(root, f"person {number}", 1), daemon=True) for number in range(20)]
    held._is_committing = True  # as while another commit is made
    for thread in threads:
        thread.start()
    until(lambda: len(held._waiting) == 20, "all wait for their commit")
    assert all(thread.is_alive() for thread in threads)
    with held._turn:
        held._is_committing = False
        held._turn.notify_all()
    all_end(threads)
    assert rows(root).height == 26
    assert store.open_table(root, "audit").version() == before + 1
    assert problems(root) == []


def test_two_processes_add_to_one_chain(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write, args=(root, name, 15)) for name in ("one", "other")]
    for process in processes:
        process.start()
    all_end(processes)
    found = rows(root)
    assert found["sequence"].to_list() == list(range(1, 37))
    for name in ("one", "other"):
        assert found.filter(name=name)["slide_id"].to_list() == [f"slide_{number}" for number in range(15)]
    assert verify(root).events == 36
    assert problems(root) == []


def test_a_process_that_is_killed_leaves_a_whole_chain(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=without_end, args=(root, "endless"))
    process.start()
    try:
        until(lambda: rows(root).height >= 16 or not process.is_alive(), "it has written ten rows", 120)
        assert process.is_alive()
    finally:
        process.kill()
        process.join(60)
    held = verify(root)
    assert held.problems == []
    audit.record(root, someone("ada"), Deed(Action.opened, "afterwards"))
    assert verify(root, held.tip).problems == []
    assert rows(root).height == held.events + 1 > 16


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_killed_at_its_commit_an_event_is_there_or_is_not(root: Path, moment: str) -> None:
    code = f"""
    import os, signal, sys
    sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
    from pathlib import Path
    from audit_writers import write
    from lake import audit_chain
    whole = audit_chain.write_deltalake
    def die(table, data, **how):
        if "{moment}" == "after the commit":
            whole(table, data, **how)
        else:  # the data file is there, as of a writer that was stopped
            import pyarrow.parquet as pq
            pq.write_table(data, Path(table.table_uri.removeprefix("file://")) / "orphan.parquet")
        os.kill(os.getpid(), signal.SIGKILL)
    audit_chain.write_deltalake = die
    write(Path({str(root)!r}), "stopped", 1)
    """
    ended = run([sys.executable, "-c", textwrap.dedent(code)])
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert rows(root).height == (7 if moment == "after the commit" else 6)
    write(root, "next", 2)
    assert problems(root) == []


def test_a_commit_that_landed_though_it_was_said_not_to_is_not_made_twice(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over a network that breaks after the commit: deltalake takes its own for another writer's."""
    lost = []

    def answer_is_lost(*args: Any, **how: Any) -> None:
        write_deltalake(*args, **how)
        if not lost:
            lost.append(True)
            write(root, "another", 1)  # and somebody goes on from there
            raise CommitFailedError("Transaction failed: max commit attempts")

    other = audit_chain.Chain(root)
    monkeypatch.setattr(audit_chain, "write_deltalake", answer_is_lost)
    other.add([{**rows(root).row(0, named=True), "slide_id": "once"}])
    assert lost
    assert rows(root)["slide_id"].to_list()[-2:] == ["once", "slide_0"]
    assert problems(root) == []
    other.add([{**rows(root).row(0, named=True), "slide_id": "later"}])  # which follows from the other's row
    assert rows(root)["slide_id"].to_list()[-3:] == ["once", "slide_0", "later"]
    assert problems(root) == []


# -- tampering


def altered(column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        is_row = pl.col("sequence") == 3
        kind = frame.schema[column]
        other = pl.col(column) + timedelta(microseconds=1) if kind.is_temporal() else pl.lit("another")
        return frame.with_columns(pl.when(is_row).then(other).otherwise(pl.col(column)).cast(kind).alias(column))

    return change


def hashed_anew(frame: pl.DataFrame) -> pl.DataFrame:
    """Row 3 tells something else, with the hash that this gives."""
    told = frame.to_dicts()
    changed = {name: told[2][name] for name in frame.columns if name not in ("sequence", "previous_hash", "hash")}
    [told[2]] = linked([{**changed, "subject": "another"}], Link(2, told[1]["hash"]))
    return pl.DataFrame(told, frame.schema)


def swapped(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows 3 and 4 in the other order, each with the place of the other."""
    places = pl.col("sequence").replace({3: 4, 4: 3})
    return frame.with_columns(places)


def put_in(frame: pl.DataFrame) -> pl.DataFrame:
    """A row that follows from row 3, beside the one that does."""
    told = frame.row(3, named=True)
    made = {name: told[name] for name in frame.columns if name not in ("sequence", "previous_hash", "hash")}
    [row] = linked([{**made, "subject": "another"}], Link(3, frame["hash"][2]))
    return pl.concat([frame, pl.DataFrame([row], frame.schema)])


TAMPERED = {
    **{
        f"{column} changed": (altered(column), "row 3 was changed")
        for column in AUDIT.schema.names
        if column != "sequence"
    },
    "a row changed, and its hash": (hashed_anew, "row 4 does not follow"),
    "a row deleted": (lambda frame: frame.filter(pl.col("sequence") != 3), "rows 3 to 3 are missing"),
    "the first row deleted": (lambda frame: frame.filter(pl.col("sequence") != 1), "rows 1 to 1 are missing"),
    "rows swapped": (swapped, "row 3 was changed"),
    "a row put in": (put_in, "row 4 is there twice"),
    "a row copied": (lambda frame: pl.concat([frame, frame[2:3]]), "row 3 is there twice"),
    "a place taken away": (
        lambda frame: frame.with_columns(pl.when(pl.col("sequence") != 3).then("sequence")),
        "was changed",
    ),
    "all moved up": (lambda frame: frame[1:].with_columns(pl.col("sequence") - 1), "row 1 was changed"),
}


@pytest.mark.parametrize("attack", TAMPERED)
def test_a_tampered_row_is_found(merged: Path, attack: str) -> None:
    tamper, words = TAMPERED[attack]
    [file] = store.open_table(merged, "audit").file_uris()
    before = pl.read_parquet(file).sort("sequence")
    tamper(before).select(before.columns).cast(before.schema).write_parquet(file)
    found = problems(merged)
    assert any(words in each for each in found), found


def test_what_only_moved_in_its_file_is_no_tampering(root: Path) -> None:
    file = only_file(root)
    pl.read_parquet(file).reverse().write_parquet(file)
    assert problems(root) == []


def test_a_row_taken_out_of_delta_s_log_is_missed(root: Path) -> None:
    log = root / "audit" / "_delta_log" / f"{3:020}.json"
    kept = [line for line in log.read_text().splitlines() if '"add"' not in line]
    log.write_text("\n".join(kept))
    assert problems(root) == ["rows 3 to 3 are missing"]


def test_a_row_deleted_by_a_delta_writer_of_one_s_own_is_missed(root: Path) -> None:
    table = store.open_table(root, "audit")
    with pytest.raises(DeltaError, match=r"(?i)append"):
        table.delete("sequence = 3")
    assert rows(root).height == 6
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    store.open_table(root, "audit").delete("sequence = 3")
    assert problems(root) == ["rows 3 to 3 are missing"]


def test_a_file_that_is_gone_or_broken_is_a_sentence(root: Path) -> None:
    file = only_file(root)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(LakeError, match="cannot be read"):
        verify(root)
    file.unlink()
    with pytest.raises(LakeError, match="is not there"):
        verify(root)


def test_only_a_tip_kept_elsewhere_finds_a_chain_cut_off_or_written_anew(root: Path) -> None:
    kept = verify(root).tip
    file = only_file(root)
    whole = pl.read_parquet(file).sort("sequence")
    assert problems(root, kept) == []

    whole[:-2].write_parquet(file)
    assert problems(root) == []
    assert kept is not None
    assert any(kept in each for each in problems(root, kept))

    told = whole.with_columns(subject=pl.lit("nobody")).drop("sequence", "previous_hash", "hash").to_dicts()
    pl.DataFrame(linked(told, Link(0, anchor(root))), whole.schema).write_parquet(file)
    assert problems(root) == []
    assert any(kept in each for each in problems(root, kept))


def test_a_tip_is_found_after_more_was_written_and_merged(root: Path) -> None:
    kept = verify(root).tip
    write(root, "ada", 3)
    store.compact(root, "audit")
    assert verify(root, kept).problems == []


def test_another_lake_s_table_does_not_fit(root: Path, tmp_path: Path) -> None:
    creation.create(tmp_path / "other")
    write(tmp_path / "other", "ada", 2)
    shutil.rmtree(root / "audit")
    shutil.copytree(tmp_path / "other" / "audit", root / "audit")
    assert problems(root) == ["row 1 does not follow from the row before it: rows before it were written anew"]


def test_a_table_that_is_gone_is_not_made_again(root: Path) -> None:
    shutil.rmtree(root / "audit")
    with pytest.raises(LakeError, match="the table audit is gone; restore it from a backup"):
        creation.create(root)
    assert not (root / "audit").exists()
    with pytest.raises(AuditError, match="It was not done"):
        write(root, "ada", 1)


def test_a_log_without_statistics_is_not_gone_on_from(root: Path) -> None:
    """Else the chain would begin anew, and look as if another had tampered with it."""
    bare = rows(root)[-1:].to_arrow().cast(AUDIT.schema)
    unknown = WriterProperties(default_column_properties=ColumnProperties(statistics_enabled="NONE"))
    write_deltalake(store.open_table(root, "audit"), bare, mode="append", writer_properties=unknown)
    with pytest.raises(AuditError, match="its log does not tell"):
        write(root, "ada", 1)


# -- upkeep


def test_merged_and_vacuumed_the_chain_is_whole_and_goes_on(root: Path) -> None:
    kept = verify(root).tip
    assert upkeep.optimize(root, "audit") == 6
    assert upkeep.vacuum(root, "audit", 0) == 6
    write(root, "ada", 2)
    assert verify(root, kept).problems == []
    assert verify(root).events == 8
    assert store.rows(root, "runs").filter(stage="audit").is_empty()


def test_maintain_looks_after_it_and_the_second_time_there_is_nothing_to_do(root: Path) -> None:
    done = {each.table: each for each in maintenance.maintain(root)}
    assert done["audit"].files_merged == 6
    assert problems(root) == []
    assert all(each.is_idle for each in maintenance.maintain(root))


def test_many_small_files_are_merged_as_they_come(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LEDGER_FILES", 8)
    write(root, "ada", 20)
    assert len(store.open_table(root, "audit").file_uris()) <= 9
    assert verify(root).events == 26
    assert problems(root) == []


def test_a_lake_that_is_put_back_under_its_path_goes_on_from_what_it_has(root: Path, tmp_path: Path) -> None:
    """The chain that this process knows is another then."""
    shutil.copytree(root, tmp_path / "backup")
    write(root, "lost", 3)
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "backup", root)
    write(root, "kept", 3)
    assert problems(root) == []
    assert rows(root)["name"].to_list() == [*PEOPLE, "kept", "kept", "kept"]


# -- who sees it


def test_no_connection_shows_it(root: Path) -> None:
    with connect(root, udfs=()) as con:
        for statement in ("from audit", "select * from files_of('audit', null)"):
            with pytest.raises(duckdb.Error):
                con.execute(statement)
        [(told,)] = con.execute("select count(*) from table_columns where table_name = 'audit'").fetchall()
        assert told == 0
        assert "audit" not in [name for (name,) in con.execute("select table_name from snapshot").fetchall()]
    with pytest.raises(LakeError, match="no table 'audit'"):
        connect(root, udfs=(), at={"audit": 1})
    assert "audit" not in TABLES


def test_an_event_is_no_change_of_the_lake(root: Path) -> None:
    before = store.newest_commit(root, "runs")
    write(root, "ada", 2)
    assert store.newest_commit(root, "runs") == before


# -- when it cannot be written


def test_a_lake_whose_folders_cannot_be_read_either_says_what_failed_first(root: Path) -> None:
    shutil.rmtree(root / "audit")
    (root / "audit").mkdir()
    (root / "audit" / "_delta_log").write_text("no folder")
    with pytest.raises(AuditError, match=r"audit.* It was not done"):
        write(root, "ada", 1)


def test_on_a_full_disk_nothing_leaves_the_lake(full_lake: TestLake, tmp_path: Path) -> None:
    out = tmp_path / "heatmap.png"
    with full_disk():
        ended = full_lake("heatmap", "tumor_1", "--out", str(out))
    assert ended.status == 1
    assert "audit: cannot be written" in ended.err
    assert ended.err.endswith("It was not done, for it cannot be recorded\n")
    assert ended.err.count("\n") == 1
    assert not out.exists()
    assert problems(full_lake.root) == []
    full_lake.ok("heatmap", "tumor_1", "--out", str(out))
    assert problems(full_lake.root) == []


@pytest.mark.slow
def test_from_a_read_only_lake_nothing_is_exported(full_lake: TestLake, tmp_path: Path) -> None:
    """Its log is a file, so that not even root can add to it; all else is as it was."""
    log, out = full_lake.root / "audit" / "_delta_log", tmp_path / "scores.csv"
    before = full_lake.versions()
    command = [sys.executable, "-m", "lake", "export", "scores", "--out", str(out), "--lake", str(full_lake.root)]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
        if not shutil.which("setpriv") or run([*command[:3], "true"]).returncode:
            pytest.skip("root may write everywhere, and cannot let go of that here")
    log.chmod(0o555)
    try:
        ended = run(command)
    finally:
        log.chmod(0o755)
    assert ended.returncode == 1, ended.stderr
    assert "audit: cannot be written" in ended.stderr
    assert "It was not done" in ended.stderr
    assert not out.exists()
    assert full_lake.versions() == before


def test_without_the_record_no_model_is_promoted_and_no_verdict_kept(full_lake: TestLake) -> None:
    [row] = models.rows(full_lake.root)
    store.put(full_lake.root, "settings", [{"name": "champion", "value": "another"}], "test")
    said = [reviews.Verdict(Place("tumor_1", 400, 300), "tumor", None, "ada")]
    with full_disk():
        with pytest.raises(AuditError, match="It was not done"):
            models.make_champion(full_lake.root, row, "test")
        with pytest.raises(AuditError, match="It was not done"):
            reviews.review(full_lake.root, said, model=row["model_id"], patch_set=None, run_id="test")
        with pytest.raises(AuditError, match="It was not done"):
            set_meaning(full_lake.root, "Carcinoma", Meaning.tumor, "test")
    assert models.champion(full_lake.root) == "another"
    assert full_lake.read("reviews").is_empty()
    assert "carcinoma" not in full_lake.read("annotation_groups")["group_name"]
    assert rows(full_lake.root)["action"].to_list() == ["promoted"]


# -- the command line


def test_commands_that_take_something_out_or_decide_it_are_recorded(full_lake: TestLake, tmp_path: Path) -> None:
    root, user = full_lake.root, audit.user().subject
    full_lake.ok("heatmap", "tumor_1", "--out", str(tmp_path / "heatmap.png"))
    full_lake.ok("show", "tumor_1", "--out", str(tmp_path / "patches.png"))
    full_lake.ok("export", "annotations", "--slide", "tumor_[12]", "--out", str(tmp_path / "annotations"))
    full_lake.ok("export", "predictions", "--slide", "tumor_2", "--out", str(tmp_path / "p.geojson"))
    full_lake.ok("export", "hotspots", "--slide", "tumor_2", "--out", str(tmp_path / "h.csv"))
    full_lake.ok("export", "scores", "--slide", "tumor_2", "--out", str(tmp_path / "scores.csv"))
    full_lake.ok("review", "tumor_1", "400", "300", "tumor", "--reviewer", "ada")
    full_lake.ok("groups", "set", "Carcinoma", "tumor")
    full_lake.ok("optimize", "runs")
    full_lake.ok("vacuum", "runs", "--keep-hours", "0")
    found = rows(root).filter(pl.col("action") != "promoted")
    told = found.select("action", "slide_id", "object").rows()
    assert told == [
        ("exported", "tumor_1", str(tmp_path / "heatmap.png")),
        ("exported", "tumor_1", str(tmp_path / "patches.png")),
        ("exported", "tumor_1", str(tmp_path / "annotations" / "tumor_1.geojson")),
        ("exported", "tumor_2", str(tmp_path / "annotations" / "tumor_2.geojson")),
        ("exported", "tumor_2", str(tmp_path / "p.geojson")),
        ("exported", "tumor_2", str(tmp_path / "h.csv")),
        ("exported", "tumor_2", str(tmp_path / "scores.csv")),
        ("reviewed", "tumor_1", full_lake.read("models")["model_id"][0]),
        ("regrouped", None, "carcinoma"),
        ("vacuumed", None, "runs"),
    ]
    assert set(found["subject"]) == {user}
    assert set(found["via"]) == {"cli"}
    what = [json.loads(each).get("what") for each in found["details"]][:7]
    assert what == ["heatmap", "patches", "annotations", "annotations", "predictions", "hotspots", "scores"]
    assert problems(root) == []


def test_who_made_a_model_the_champion_is_recorded_of_training_too(full_lake: TestLake) -> None:
    [promoted] = rows(full_lake.root).filter(action="promoted").to_dicts()
    assert promoted["object"] == full_lake.read("models")["model_id"][0]
    assert json.loads(promoted["details"]) == {"before": None}


def test_verify_prints_the_tip_and_finds_with_it_what_is_missing(root: Path) -> None:
    lake = TestLake(root)
    answer = lake.ok("audit", "verify")
    assert answer.out.strip() == rows(root)["hash"][-1]
    assert "6 rows" in answer.err
    assert "whole" in answer.err
    file = only_file(root)
    pl.read_parquet(file).sort("sequence")[:-1].write_parquet(file)
    assert lake.ok("audit", "verify").err.startswith("5 rows")
    cut = lake("audit", "verify", "--tip", answer.out.strip())
    assert cut.status == 1
    assert "taken off the end" in cut.err
    assert "BROKEN" in cut.err
    told = lake("audit", "verify", "--tip", answer.out.strip(), "--json")
    assert told.status == 1
    assert told.json()["events"] == 5
    assert len(told.json()["problems"]) == 1


def test_verify_of_a_table_without_rows_says_so(tmp_path: Path) -> None:
    creation.create(tmp_path / "lake")
    answer = TestLake(tmp_path / "lake").ok("audit", "verify")
    assert answer.out == ""
    assert answer.err == "0 rows: the chain is whole\n"


def test_show_lists_the_newest_first_and_filters(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = TestLake(root)

    def shown(*words: str) -> list[int]:
        return [row["sequence"] for row in lake.ok("audit", "show", "--json", *words).json()]

    assert shown() == [6, 5, 4, 3, 2, 1]
    assert shown("--limit", "2") == [6, 5]
    assert shown("--who", "ada") == [5, 3, 1]
    assert shown("--who", "subject of g*") == [6, 2]
    assert shown("--slide", "slide_[01]") == [2, 1]
    assert shown("--action", "opened", "--who", "linus") == [4]
    assert shown("--action", "exported") == []
    moment = rows(root)["recorded_at"][3]
    assert shown("--since", moment.isoformat()) == [6, 5, 4]
    assert shown("--since", "2999-01-01") == []
    monkeypatch.setattr(cli_output.stdout, "width", 300)  # else its cells are folded where the terminal is narrow
    table = lake.ok("audit", "show", "--who", "linus").out
    assert "subject of linus" in table
    assert "slide_3" in table
    refused = lake("audit", "show", "--since", "yesterday")
    assert refused.status == 1
    assert "--since yesterday: must be a day or a time" in refused.err
