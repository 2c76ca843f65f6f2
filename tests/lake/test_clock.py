"""Clocks that are set back between two commands: what is newest is newest all the same.

Only Python's clock is set back here, which all entries and verdicts are stamped by. The times that Delta's log has of
commits come from the kernel; nothing is decided by them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import polars as pl
import pytest
from support import TestLake, asap, write_slide

from lake import reviews, store

SetBack = Callable[[int], None]


@pytest.fixture
def set_back(monkeypatch: pytest.MonkeyPatch) -> SetBack:
    """`set_back(days)`: the clock from now on, in what is a new process as far as the ledger is concerned."""

    def back(days: int) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Clock:
                return super().now(tz) - timedelta(days=days)

        for module in (store, reviews):
            monkeypatch.setattr(module, "datetime", Clock)
        monkeypatch.setattr(store, "_newest", {})

    return back


def features(lake: TestLake) -> int:
    """Embeddings that are up to date, where patches and embeddings agree."""
    told = lake.ok("sql", "select count(*) as n from slide_features", "--format", "json").json()[0]["n"]
    patches = lake.ok("sql", "select count(*) as n from slide_patches", "--format", "json").json()[0]["n"]
    assert told == patches > 0
    return int(told)


def test_a_slide_that_goes_and_comes_back_has_its_rows_whatever_the_clock_says(
    lake: TestLake, tmp_path: Path, set_back: SetBack
) -> None:
    file = write_slide(tmp_path / "one.tif")
    first = file.read_bytes()
    lake.ok("ingest", str(file))
    lake.ok("run", *lake.tiling)
    small = features(lake)
    set_back(10)
    write_slide(file, tissue=(0, 0, 1024, 768))
    lake.ok("ingest", str(file))
    lake.ok("run", *lake.tiling)
    assert features(lake) > small
    assert "nothing to do" in lake.ok("run", *lake.tiling).err
    set_back(20)
    file.write_bytes(first)
    lake.ok("ingest", str(file))
    lake.ok("run", *lake.tiling)
    assert features(lake) == small
    lake.ok("check")
    at = lake.read("runs").sort("table_version").filter(stage="features")["finished_at"]
    assert at.is_sorted()
    assert at.n_unique() == 3


def test_annotations_that_changed_label_whatever_the_clock_says(
    lake: TestLake, tmp_path: Path, set_back: SetBack
) -> None:
    file = write_slide(tmp_path / "one.tif", tumor=(256, 128, 128, 128))
    words = ("ingest", str(file), "--annotations", str(tmp_path / "*.xml"))
    lake.ok(*words)
    lake.ok("run", *lake.tiling)
    set_back(5)
    file.with_suffix(".xml").write_text(asap([("Tumor", (256, 128, 256, 512))]))
    lake.ok(*words)
    lake.ok("run", *lake.tiling)
    told = lake.ok("sql", "select sum(label)::int as n from current_labels", "--format", "json").json()
    assert told == [{"n": 32}]
    assert "nothing to do" in lake.ok("run", *lake.tiling).err


def test_of_two_verdicts_on_a_patch_the_later_holds_whatever_the_clock_says(
    full_lake: TestLake, set_back: SetBack
) -> None:
    place = full_lake.read("patches").filter(slide_id="tumor_1").row(0, named=True)
    words = ("review", "tumor_1", str(place["x"]), str(place["y"]))
    full_lake.ok(*words, "tumor")
    set_back(3)
    full_lake.ok(*words, "normal")
    held = full_lake.ok("sql", "select verdict from reviewed_labels", "--format", "json").json()
    assert held == [{"verdict": "normal"}]


def test_the_champion_that_was_chosen_last_is_named_last(full_lake: TestLake, set_back: SetBack) -> None:
    set_back(3)
    store.put(full_lake.root, "settings", [{"name": "champion", "value": "other"}], "test", {"model_id": "other"})
    entries = full_lake.read("runs").filter(pl.col("stage") == "settings").sort("finished_at")
    assert entries["table_version"].is_sorted()
