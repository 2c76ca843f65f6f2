"""Planning by what the ledger counted gives the units that counting all rows gives, whatever happened before."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from support import TestLake, write_slide

from lake import connect, creation, sql_files, store, workflow
from lake.commits import Committer
from lake.pipeline import plan
from lake.sql_files import Stage
from lake.table_files import bucket_of
from lake.tables import TABLES, Table
from lake.units import Result, Unit

COUNTED = ("features", "labels", "patch_images", "predictions")


def both_plans(root: Path, stage: Stage, **chosen: object) -> list[list[Unit]]:
    """The units by the ledger's counts, and by counting rows, as if the stage had done none of them."""
    with connect(root, udfs=()) as con:
        never = replace(stage, name=f"never_{stage.name}")
        return [plan(con, each, chosen, (), False) for each in (never, replace(never, counts=""))]


def assert_alike(lake: TestLake) -> int:
    """All stages that are planned by the ledger, for all tilings; returns the units planned."""
    stages, planned = sql_files.stages(lake.root), 0
    for name in COUNTED:
        assert stages[name].counts
        chosen = {
            "label_rule": "centre",
            "min_covered": None,
            "encoder_id": None,
            "model_id": "m",
            "image_format": "png",
        }
        if name != "predictions":
            chosen["encoder_id"] = "new"
        by_ledger, by_rows = both_plans(lake.root, stages[name], **chosen)
        assert by_ledger == by_rows
        planned += len(by_rows)
    return planned


@pytest.mark.slow
def test_units_are_those_of_all_rows_when_slides_and_annotations_change(full_lake: TestLake, slides: Path) -> None:
    assert assert_alike(full_lake)
    write_slide(slides / "tumor_1.tif", tissue=(128, 128, 700, 500), tumor=(256, 256, 128, 128))
    full_lake.ok("ingest", str(slides / "tumor_1.tif"), "--annotations", str(slides / "*.xml"))
    before = assert_alike(full_lake)  # what was made of the slide as it was is stale
    full_lake.ok("run", *full_lake.tiling)
    assert assert_alike(full_lake) > before
    (slides / "normal_1.tif").write_bytes((slides / "normal_1.tif").read_bytes()[:5000])
    full_lake("ingest", str(slides / "normal_1.tif"))
    full_lake("run", *full_lake.tiling)
    full_lake.ok("optimize")
    full_lake.ok("vacuum", "--keep-hours", "0")
    assert assert_alike(full_lake)


def test_a_slide_of_several_parts_has_as_many_by_the_ledger(full_lake: TestLake) -> None:
    tiling = ("--patch-px", "16", "--stride-px", "4", "--mpp", "1", "--slide", "tumor_1", "--encoder", "tiny")
    full_lake.ok("run", *tiling, "--stage", "patches")
    parts = full_lake.read("patches").filter(pl.col("patch_set").str.starts_with("grid-16px"))["part"].unique()
    assert len(parts) > 1
    assert assert_alike(full_lake) > len(parts)


def test_a_lake_with_a_view_of_its_own_in_the_place_of_ours_counts_rows(full_lake: TestLake) -> None:
    views = full_lake.root / "sql" / "views"
    views.mkdir(parents=True)
    (views / "other.sql").write_text("select 1 as x")
    assert sql_files.stages(full_lake.root)["features"].counts == "patch_units"
    few = sql_files.query("views/slide_patches") + "\nwhere p.x < 400"
    (views / "slide_patches.sql").write_text(few)
    stage = sql_files.stages(full_lake.root)["features"]
    assert stage.counts == ""
    with connect(full_lake.root, udfs=()) as con:
        [(wanted,)] = con.execute("select count(*) from slide_patches").fetchall()
        units = plan(con, stage, {"encoder_id": "new", "input_px": 16}, (), False)
    assert sum(unit.rows for unit in units) == wanted


def rows_of(table: Table, unit: Unit, count: int) -> pa.Table:
    usual = {**dict.fromkeys(table.schema.names), "slide_id": unit.slide_id, **json.loads(unit.identity)}
    usual |= {"part": unit.part, "fingerprint": unit.fingerprint, "bucket": unit.bucket, "y": 0}
    return pa.Table.from_pylist([{**usual, "x": x} for x in range(count)], schema=table.schema)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_committed_in_whatever_order_the_ledger_counts_what_is_there(tmp_path: Path, seed: int) -> None:
    """Slides that go from one fingerprint to another and back, parts that come and go, failures in between."""
    root, draw = tmp_path / "lake", random.Random(seed)
    creation.create(root)
    tiling = {**dict.fromkeys(TABLES["patch_sets"].schema.names), "patch_set": "p", "tiling": "grid"}
    store.put(root, "patch_sets", [tiling], "test")
    slides = {name: {**dict.fromkeys(TABLES["slides"].schema.names), "slide_id": name, "status": "ok"} for name in "ab"}
    identities = {"patches": {"patch_set": "p"}, "features": {"patch_set": "p", "encoder_id": "e"}}
    seen = 0
    for _ in range(6):
        for name in ("patches", "features"):
            committer = Committer(root, sql_files.stages()[name], {}, "test", {})
            for slide_id in draw.sample("ab", 2):
                part = draw.randrange(2) if name == "features" else 0
                mark, identity = draw.choice("fg"), json.dumps(identities[name], separators=(",", ":"))
                unit = Unit(slide_id, identity, part, name == "features", mark, bucket_of(slide_id), 1)
                rows = draw.choice([None, 0, 1, 3])
                made = None if rows is None else rows_of(TABLES[name], unit, rows)
                committer.add(Result(unit, made, 0, None if rows is not None else "broken", 0.1))
            committer.flush()
        for slide in slides.values():
            store.put(root, "slides", [{**slide, "fingerprint": draw.choice("fg")}], "test")
        with connect(root, udfs=()) as con:
            for view, units, keys in (
                ("slide_patches", "patch_units", ["slide_id", "patch_set", "fingerprint", "part"]),
                ("slide_features", "feature_units", ["slide_id", "patch_set", "encoder_id", "fingerprint", "part"]),
            ):
                there = con.table(view).pl().group_by(keys).agg(pl.len().cast(pl.Int64).alias("rows"))
                said = con.table(units).pl().select(*keys, pl.col("rows").cast(pl.Int64))
                assert said.sort(keys).rows() == there.sort(keys).rows()
                seen += said.height
    assert seen


def test_which_tilings_have_embeddings_is_known_without_reading_them(full_lake: TestLake) -> None:
    held = set(full_lake.read("features").select("patch_set", "encoder_id").unique().rows())
    with connect(full_lake.root, udfs=()) as con:
        assert set(con.execute(sql_files.query("pipeline/embedded")).fetchall()) == held
    assert workflow.choose_trained(
        full_lake.root, encoder=None, patch_set=None, label_rule=None, run_id="test"
    ).patch_set in {name for name, _ in held}
