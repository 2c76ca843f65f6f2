"""The stages end to end on small slides: what is done, what is not done again, what is redone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from support import TestLake, asap, write_slide

from lake import connect, session, store
from lake.tables import APART

LABELS = ("--stage", "patches", "--stage", "labels")  # without embeddings, which take longest


def test_patches_cover_the_tissue_and_nothing_else(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif", tissue=(256, 128, 256, 128))
    lake.ok("ingest", str(tmp_path / "one.tif"))
    lake.ok("run", *lake.tiling, "--stage", "patches")
    found = lake.read("patches").sort("y", "x").select("x", "y", "span_x").rows()
    assert found == [(x, y, 64.0) for y in (128, 192) for x in (256, 320, 384, 448)]


def test_labels_say_which_centres_lie_in_tumor_less_exclusions(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif", tissue=(256, 128, 256, 128))
    boxes = [("Tumor", (256, 128, 128, 128)), ("Exclusion", (256, 128, 64, 64)), ("None", (384, 128, 128, 128))]
    (tmp_path / "one.xml").write_text(asap(boxes))
    lake.ok("ingest", str(tmp_path / "one.tif"), "--annotations", str(tmp_path / "one.xml"))
    lake.ok("run", *lake.tiling, *LABELS)
    tumor = lake.read("labels").filter(pl.col("label") == 1).sort("y", "x").select("x", "y").rows()
    assert tumor == [(320, 128), (256, 192), (320, 192)]


def test_labels_by_covered_fraction_count_the_area(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif", tissue=(256, 128, 256, 128))
    (tmp_path / "one.xml").write_text(asap([("Tumor", (256, 128, 80, 128))]))  # a quarter of the second column
    lake.ok("ingest", str(tmp_path / "one.tif"), "--annotations", str(tmp_path / "one.xml"))
    for fraction, columns in ((0.2, {256, 320}), (0.3, {256})):
        lake.ok("run", *lake.tiling, *LABELS, "--label-rule", f"covered>={fraction}")
        rows = lake.read("labels").filter(label_rule=f"covered>={fraction}", label=1)
        assert set(rows["x"]) == columns


def test_a_slide_annotated_with_nothing_is_normal_and_one_without_annotation_has_no_labels(
    lake: TestLake, tmp_path: Path
) -> None:
    write_slide(tmp_path / "nothing_drawn.tif")
    write_slide(tmp_path / "not_looked_at.tif")
    (tmp_path / "not_looked_at.xml").unlink()
    lake.ok("ingest", str(tmp_path), "--annotations", str(tmp_path))
    lake.ok("run", *lake.tiling, *LABELS)
    labels = lake.read("labels")
    assert set(labels["slide_id"]) == {"nothing_drawn"}
    assert set(labels["label"]) == {0}


def test_given_centres_make_patches_and_their_labels(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif")
    (tmp_path / "tumor.csv").write_text("one,300,200\none,400,300\nelsewhere,5,5\n")
    (tmp_path / "normal.csv").write_text("one,700,500\n")
    lake.ok(
        *("ingest", str(tmp_path / "one.tif"), "--coords-tumor", str(tmp_path / "tumor.csv")),
        *("--coords-normal", str(tmp_path / "normal.csv")),
    )
    lake.ok("run", *lake.tiling, *LABELS, "--at-centres")
    labels = lake.read("labels").sort("x").select("x", "y", "label", "label_rule").rows()
    assert labels == [(268, 168, 1, "points"), (368, 268, 1, "points"), (668, 468, 0, "points")]
    waiting = {check["name"]: check["violations"] for check in lake.ok("check", "--json").json()}
    assert [row["slide_id"] for row in waiting["annotations_have_slides"]] == ["elsewhere"]


def test_different_mpp_across_and_down_give_patches_that_are_square_in_microns(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif")
    lake.ok("ingest", str(tmp_path / "one.tif"))
    slide = lake.read("slides").with_columns(mpp_x=pl.lit(0.5), mpp_y=pl.lit(0.8))
    store.put(lake.root, "slides", slide.to_dicts(), "test")
    lake.ok("run", *lake.tiling, "--stage", "patches")
    spans = lake.read("patches").select("span_x", "span_y").unique().rows()
    assert spans == [(128.0, 80.0)]


def test_a_second_run_of_everything_writes_no_version_of_any_table(full_lake: TestLake, slides: Path) -> None:
    before = full_lake.versions()
    answers = [
        full_lake.ok(
            "ingest", str(slides), "--annotations", str(slides), "--manifest", str(slides / "manifest.csv"), "--json"
        ),
        full_lake.ok("run", *full_lake.tiling, "--json"),
        full_lake.ok("predict", "--json"),
    ]
    assert all(stage["units"] == 0 for answer in answers for stage in answer.json())
    full_lake.ok("evaluate")
    assert full_lake.versions() == before


def test_a_new_slide_is_the_only_one_worked_on(full_lake: TestLake, slides: Path) -> None:
    write_slide(slides / "late.tif")
    full_lake.ok("ingest", str(slides / "late.tif"))
    done = full_lake.ok("run", *full_lake.tiling, "--json").json() + full_lake.ok("predict", "--json").json()
    assert {stage["stage"]: stage["units"] for stage in done} == {
        "patches": 1,
        "features": 1,
        "labels": 0,
        "predictions": 1,
    }


def test_a_changed_slide_is_done_again_and_leaves_nothing_of_the_old_one(full_lake: TestLake, slides: Path) -> None:
    write_slide(slides / "tumor_1.tif", tissue=(0, 0, 128, 64), tumor=(0, 0, 64, 64))
    full_lake.ok("ingest", str(slides), "--annotations", str(slides), "--manifest", str(slides / "manifest.csv"))
    full_lake.ok("run", *full_lake.tiling)
    full_lake.ok("predict")
    for table in ("patches", "features", "predictions"):
        assert full_lake.read(table).filter(slide_id="tumor_1").sort("x").select("x", "y").rows() == [(0, 0), (64, 0)]
    full_lake.ok("check")


@pytest.mark.slow
def test_a_slide_that_changes_and_changes_back_is_whole_again(lake: TestLake, tmp_path: Path) -> None:
    first, second = (256, 128, 256, 128), (0, 0, 64, 64)
    for tissue in (first, second, first):
        write_slide(tmp_path / "one.tif", tissue=tissue)
        lake.ok("ingest", str(tmp_path / "one.tif"))
        lake.ok("run", *lake.tiling)
    assert lake.read("patches").height == lake.read("features").height == 8
    lake.ok("check")


def test_changed_annotations_relabel_what_they_touch_and_do_not_tile_again(full_lake: TestLake, slides: Path) -> None:
    before = full_lake.versions()
    run = ("run", *full_lake.tiling, "--json")
    (slides / "tumor_1.xml").write_text(asap([("Tumor", (320, 192, 192, 256))]))  # one column of four patches more
    full_lake.ok("ingest", "--annotations", str(slides / "tumor_1.xml"))
    done = {stage["stage"]: (stage["units"], stage["rows"]) for stage in full_lake.ok(*run).json()}
    assert done == {"patches": (0, 0), "features": (0, 0), "labels": (1, 4)}
    assert full_lake.versions()["patches"] == before["patches"]
    tumor = "select count(*) from current_labels where slide_id = 'tumor_1' and label = 1"
    with connect(full_lake.root, udfs=()) as con:
        assert con.sql(tumor).fetchall() == [(12,)]
        assert con.sql("select count(*) from current_labels where slide_id = 'tumor_1'").fetchall() == [(64,)]
    full_lake.ok("groups", "set", "TUMOR", "none")
    assert full_lake.ok(*run).json()[-1]["units"] == 4  # the slides on which the group occurs
    with connect(full_lake.root, udfs=()) as con:
        assert con.sql(tumor).fetchall() == [(0,)]
    full_lake.ok("check")


def test_a_slide_of_more_than_a_part_is_done_part_by_part(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "large.tif", tissue=(0, 0, 2048, 1536), size=(2048, 1536))
    lake.ok("ingest", str(tmp_path / "large.tif"))
    lake.ok("run", "--patch-px", "16", "--mpp", "1", "--encoder", "tiny")
    assert lake.read("features")["part"].value_counts().sort("part").rows() == [(0, 8192), (1, 4096)]
    ledger = lake.read("runs").filter(stage="features").sort("part")
    assert ledger.select("part", "rows", "status").rows() == [(0, 8192, "ok"), (1, 4096, "ok")]
    lake.ok("check")


def test_a_blank_slide_is_done_and_named_by_check(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "blank.tif", tissue=(0, 0, 0, 0))
    lake.ok("ingest", str(tmp_path / "blank.tif"))
    lake.ok("run", *lake.tiling)
    assert lake.read("runs").filter(stage="patches")["status"].to_list() == ["empty"]
    assert all(stage["units"] == 0 for stage in lake.ok("run", *lake.tiling, "--json").json())
    found = {check["name"]: check["violations"] for check in lake.ok("check", "--json").json()}
    assert [row["slide_id"] for row in found["slides_have_tissue"]] == ["blank"]


def test_a_failed_unit_is_left_alone_until_it_is_asked_for(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif")
    lake.ok("ingest", str(tmp_path / "one.tif"))
    too_fine = ("run", "--patch-px", "64", "--mpp", "0.5", "--encoder", "tiny", "--json")
    assert lake(*too_fine).status == 1
    assert lake.ok(*too_fine).json()[0]["units"] == 0
    assert lake(*too_fine, "--retry-failed").json()[0]["units"] == 1
    assert lake.ok(*too_fine, "--allow-upsampling").json()[0]["rows"] > 0


def test_crops_are_stored_when_asked_for(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif", tissue=(256, 128, 64, 64))
    lake.ok("ingest", str(tmp_path / "one.tif"))
    lake.ok("run", *lake.tiling)
    assert lake.read("patch_images").is_empty()
    for kind, magic in (("jpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG")):
        lake.ok("run", *lake.tiling, "--stage", "patch_images", "--image-format", kind)
        rows = lake.read("patch_images").filter(image_format=kind)
        assert [row[: len(magic)] for row in rows["image"]] == [magic]


def test_an_analyst_adds_a_stage_with_a_sql_file_alone(full_lake: TestLake) -> None:
    folder = full_lake.root / "sql"
    folder.mkdir()
    (folder / "darkness.sql").write_text(
        "-- darkness: how dark every patch is.\n--\n-- table     darkness\n-- key       slide_id, patch_set, x, y\n"
        "-- over      slide_patches\n-- identity  patch_set\n\n"
        "select slide_id, patch_set, part, x, y, tissue * 2 as darkness, fingerprint from slide_patches\n"
    )
    done = {stage["stage"]: stage["rows"] for stage in full_lake.ok("run", *full_lake.tiling, "--json").json()}
    assert done["darkness"] == full_lake.read("patches").height == full_lake.read("darkness").height
    again = {stage["stage"]: stage["units"] for stage in full_lake.ok("run", *full_lake.tiling, "--json").json()}
    assert again["darkness"] == 0
    assert (
        full_lake.ok("sql", "select count(*) as n from darkness", "--format", "json").json()[0]["n"] == done["darkness"]
    )


def test_a_region_is_a_tiling_of_its_own_on_the_same_grid(full_lake: TestLake) -> None:
    whole = full_lake.read("patches")
    full_lake.ok("run", *full_lake.tiling, "--slide", "tumor_1", "--region", "Annotation 0")
    full_lake.ok("predict", "--slide", "tumor_1", "--region", "Annotation 0")
    segment = full_lake.read("patches").filter(pl.col("patch_set").str.contains("region"))
    assert set(segment["slide_id"]) == {"tumor_1"}
    inside = whole.filter(pl.col("x").is_between(320, 447), pl.col("y").is_between(192, 447), slide_id="tumor_1")
    assert sorted(segment.select("x", "y").rows()) == sorted(inside.select("x", "y").rows())
    scored = full_lake.read("predictions").filter(pl.col("patch_set").str.contains("region"))
    assert scored.height == segment.height > 0


def test_the_slides_of_a_patient_share_a_split_and_the_seed_is_recorded(lake: TestLake, tmp_path: Path) -> None:
    rows = ["slide_id,patient_id"]
    for number in range(12):
        write_slide(tmp_path / f"s{number}.tif", size=(256, 256), tissue=(64, 64, 64, 64))
        rows.append(f"s{number},p{number % 6}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    lake.ok("ingest", str(tmp_path), "--manifest", str(tmp_path / "manifest.csv"))
    sides = lake.read("slides").group_by("patient_id").agg(pl.col("split").n_unique())
    assert sides["split"].to_list() == [1] * 6
    assert lake.read("slides")["split"].n_unique() > 1
    assert store.setting(lake.root, "seed") == "0"


def test_training_learns_evaluation_measures_and_everything_is_traced(full_lake: TestLake) -> None:
    measured = full_lake.ok("evaluate", "--json").json()["patch"]
    assert measured["test"]["auc"]["value"] == pytest.approx(1.0, abs=0.01)
    assert measured["test"]["patches"]["value"] == 128
    model = full_lake.read("models").to_dicts()[0]
    assert set(full_lake.read("predictions")["model_id"]) == {model["model_id"]}
    assert (full_lake.root / model["artifact"] / "artifacts/head.skops").is_file()
    for name, number in json.loads(model["table_versions"]).items():
        assert store.open_table(full_lake.root, name, number).version() == number
    full_lake.ok("check")


def test_training_again_on_the_same_tables_makes_no_second_model(full_lake: TestLake) -> None:
    before = full_lake.versions()
    assert full_lake.ok("train", "--encoder", "tiny", "--json").json()["is_new"] is False
    assert full_lake.versions() == before


def test_mlflow_holds_parameters_metrics_plots_lineage_and_the_champion(full_lake: TestLake) -> None:
    from lake import models

    client = models.tracking(full_lake.root)
    row = full_lake.read("models").to_dicts()[0]
    run = client.get_run(row["mlflow_run_id"])
    assert run.data.params["encoder_id"] == row["encoder_id"]
    assert run.data.metrics["validation_auc"] > 0.9
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {
        "confusion_matrix.png",
        "roc.png",
        "calibration.png",
    }
    assert {each.dataset.name for each in run.inputs.dataset_inputs} == {
        "slides",
        "annotations",
        "patches",
        "labels",
        "features",
        "runs",
    }
    champion = client.get_model_version_by_alias("histolake", "champion")
    assert row["uri"] == f"models:/histolake/{champion.version}"


def test_every_table_is_read_by_polars_without_histolake(full_lake: TestLake) -> None:
    for folder in full_lake.root.glob("*/_delta_log"):
        frame, name = pl.scan_delta(str(folder.parent)).collect(), folder.parent.name
        with session.apart(full_lake.root, name) if name in APART else session.connect(full_lake.root) as con:
            assert frame.height == con.table(name).aggregate("count(*)").fetchall()[0][0]


def test_pictures_are_drawn(full_lake: TestLake, tmp_path: Path) -> None:
    for words in (
        ["heatmap", "tumor_4"],
        ["heatmap", "tumor_4", "--tint"],
        ["heatmap", "tumor_4", "--region", "300,150,300,300"],
    ):
        full_lake.ok(*words, "--out", str(tmp_path / "x.png"))
        assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
        (tmp_path / "x.png").unlink()
    full_lake.ok("show", "tumor_4", "--patches", "3", "--mpp", "1", "--mpp", "4", "--out", str(tmp_path / "y.png"))
    assert (tmp_path / "y.png").is_file()


def test_a_copied_lake_stands_on_its_own(full_lake: TestLake, slides: Path, tmp_path: Path) -> None:
    copy = TestLake(Path(shutil.copytree(full_lake.root, tmp_path / "copy")))
    before = set((full_lake.root / "mlflow").rglob("*"))
    (slides / "tumor_1.xml").write_text(asap([("Tumor", (320, 192, 64, 64))]))
    copy.ok("ingest", "--annotations", str(slides / "tumor_1.xml"))
    copy.ok("run", *copy.tiling)
    assert copy.ok("train", "--encoder", "tiny", "--json").json()["is_new"] is True
    copy.ok("predict")
    assert set((full_lake.root / "mlflow").rglob("*")) == before
    assert all((copy.root / folder / "artifacts/head.skops").is_file() for folder in copy.read("models")["artifact"])
