"""What `evaluate` stores beside a number, both protocols side by side, and the checks that see a leak."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import TestLake, write_slide

from lake import ingest, session, store
from lake.sql_files import query


def model_row(lake: TestLake) -> dict[str, Any]:
    return lake.read("models").row(0, named=True)


def put_model(lake: TestLake, **changes: Any) -> dict[str, Any]:
    """A copy of the champion's row with `changes`, in the table models."""
    row = {**model_row(lake), **changes}
    store.put(lake.root, "models", [row], "test")
    return row


def broken(lake: TestLake) -> dict[str, list[dict[str, Any]]]:
    """The promises that are broken, and by what."""
    checks = lake("check", "--json").json()
    return {check["name"]: check["violations"] for check in checks if check["violations"] and not check["notice"]}


def test_every_number_carries_what_is_behind_it(full_lake: TestLake) -> None:
    model = model_row(full_lake)
    for row in full_lake.read("metrics").filter(scope="patch").to_dicts():
        assert (row["encoder_id"], row["mlflow_run_id"]) == (model["encoder_id"], model["mlflow_run_id"])
        assert json.loads(row["parameters"]) == {"threshold": model["threshold"]}
        versions = json.loads(row["table_versions"])
        assert set(versions) == {"slides", "annotations", "labels", "predictions"}
        for name, number in versions.items():
            assert store.open_table(full_lake.root, name).version() == number
    ends = full_lake.read("metrics").filter(split="train", name="brier")
    assert (ends["low"] < ends["value"]).all()
    assert (ends["value"] < ends["high"]).all()


def test_the_json_says_what_the_table_metrics_says(full_lake: TestLake) -> None:
    said = full_lake.ok("evaluate", "--json").json()
    for row in full_lake.read("metrics").to_dicts():
        number = said[row["scope"]][row["split"]][row["name"]]
        assert number == {name: row[name] for name in ("value", "low", "high")}
        assert said["table_versions"][row["scope"]] == json.loads(row["table_versions"])
        assert said["parameters"][row["scope"]] == json.loads(row["parameters"])
    assert said["model"]["mlflow_run_id"] == model_row(full_lake)["mlflow_run_id"]


def test_the_tables_show_values_with_intervals_and_what_is_behind_them(full_lake: TestLake) -> None:
    answer = full_lake.ok("evaluate")
    row = full_lake.read("metrics").row(
        by_predicate=pl.col("name").eq("brier") & pl.col("split").eq("train"), named=True
    )
    assert f"{row['value']:.3f} ({row['low']:.3f} to" in answer.out
    threshold = f"threshold {full_lake.read('models')['threshold'][0]:g}"
    for fact in (row["model_id"], row["encoder_id"], row["mlflow_run_id"], threshold, "predictions 1"):
        assert fact in answer.err, fact


def test_the_models_own_threshold_decides_what_is_called_tumor(full_lake: TestLake) -> None:
    before = full_lake.ok("evaluate", "--json").json()["patch"]["train"]
    put_model(full_lake, threshold=0.0)
    after = full_lake.ok("evaluate", "--json").json()
    assert after["model"]["threshold"] == 0
    train = after["patch"]["train"]
    assert train["sensitivity"]["value"] == 1
    assert train["specificity"]["value"] == 0 < before["specificity"]["value"]
    assert train["auc"] == before["auc"]


def test_numbers_of_splits_that_are_gone_are_not_kept(full_lake: TestLake) -> None:
    slides = full_lake.read("slides").with_columns(split=pl.col("split").replace("validation", "test"))
    store.put(full_lake.root, "slides", slides.to_dicts(), "test")
    full_lake.ok("evaluate")
    assert set(full_lake.read("metrics")["split"]) == {"train", "test"}
    versions = full_lake.versions()
    full_lake.ok("evaluate")
    assert full_lake.versions() == versions


def test_the_calibration_error_is_what_the_reliability_curve_shows(full_lake: TestLake) -> None:
    with session.connect(full_lake.root, udfs=()) as con:
        champion = store.setting(full_lake.root, "champion")
        tenths = con.execute(query("app/reliability"), {"model_id": champion}).pl()
    gaps = tenths.group_by("split").agg(
        (pl.col("patches") * (pl.col("tumor_fraction") - pl.col("mean_probability")).abs()).sum()
        / pl.col("patches").sum()
    )
    stored = full_lake.read("metrics").filter(scope="patch", name="ece").select("split", "value")
    assert dict(gaps.iter_rows()) == pytest.approx(dict(stored.iter_rows()))


# -- both protocols


def test_a_split_by_patch_has_the_shares_of_a_split_by_slide_and_depends_on_the_seed(full_lake: TestLake) -> None:
    with session.connect(full_lake.root, udfs=()) as con:
        drawn = con.execute(
            "select patch_split('slide', x, y, '0') as one, patch_split('slide', x, y, '1') as other "
            "from range(0, 9600, 96) as a(x), range(0, 9600, 96) as b(y)"
        ).pl()
    shares = dict(drawn["one"].value_counts(normalize=True).iter_rows())
    rest = 1 - ingest.TRAIN_FRACTION - ingest.VALIDATION_FRACTION
    expected = {"train": ingest.TRAIN_FRACTION, "validation": ingest.VALIDATION_FRACTION, "test": rest}
    assert shares == pytest.approx(expected, abs=0.02)
    assert 0.3 < (drawn["one"] == drawn["other"]).mean() < 0.6


def random_model(lake: TestLake) -> dict[str, Any]:
    """A model of the protocol patch_random: the champion's coefficients under another name, with predictions."""
    champion = model_row(lake)
    row = put_model(lake, model_id="random", uri="models:/histolake/9", protocol="patch_random")
    predictions = lake.read("predictions").filter(model_id=champion["model_id"]).with_columns(model_id=pl.lit("random"))
    store.replace(
        lake.root,
        "predictions",
        predictions.to_arrow(),
        [store.Replacement({"model_id": "random"})],
        [store.entry("predictions", run_id="test", rows=predictions.height)],
    )
    return row


def test_a_model_of_patches_is_measured_on_the_patches_that_it_did_not_see_of_every_slide(full_lake: TestLake) -> None:
    random_model(full_lake)
    said = full_lake.ok("evaluate", "--model", "random", "--json").json()
    assert set(said) & {"patch", "slide", "lesion"} == {"patch"}
    labelled = full_lake.read("labels").height
    sizes = {split: numbers["patches"]["value"] for split, numbers in said["patch"].items()}
    assert sum(sizes.values()) == labelled
    assert sizes["train"] / labelled == pytest.approx(0.6, abs=0.1)
    stored = full_lake.read("metrics").filter(model_id="random")
    assert set(stored["protocol"]) == {"patch_random"}


@pytest.mark.slow
def test_both_protocols_stand_side_by_side(full_lake: TestLake) -> None:
    assert "`histolake train --protocol patch_random`" in full_lake.ok("evaluate").err
    random_model(full_lake)
    full_lake.ok("evaluate", "--model", "random")
    said = full_lake.ok("evaluate", "--json").json()
    stored = {
        (row["protocol"], row["split"], row["name"]): row["value"]
        for row in full_lake.read("metrics").filter(scope="patch").to_dicts()
    }
    assert {row["split"] for row in said["protocols"]} == {"train", "validation", "test"}
    for row in said["protocols"]:
        by_slide, by_patch = (stored[name, row["split"], row["name"]] for name in ("by_slide", "patch_random"))
        assert (row["by_slide"], row["patch_random"]) == (by_slide, by_patch)
        assert row["difference"] == (None if by_slide is None or by_patch is None else by_patch - by_slide)
        assert row["is_comparable"]
    answer = full_lake.ok("evaluate")
    assert "patch random" in answer.out
    assert "leakage" in answer.err


def test_a_model_of_patches_with_another_head_is_not_compared(full_lake: TestLake) -> None:
    random_model(full_lake)
    put_model(full_lake, model_id="random", uri="models:/histolake/9", protocol="patch_random", head="mlp")
    full_lake.ok("evaluate", "--model", "random")
    assert full_lake.ok("evaluate", "--json").json()["protocols"] == []


# -- checks


def test_a_champion_that_held_no_slide_out_breaks_a_promise(full_lake: TestLake) -> None:
    random_model(full_lake)
    assert broken(full_lake) == {}
    store.put(full_lake.root, "settings", [{"name": "champion", "value": "random"}], "test")
    assert list(broken(full_lake)) == ["champion_held_slides_out"]


def test_a_slide_under_two_names_on_two_sides_breaks_a_promise(lake: TestLake, tmp_path: Path) -> None:
    first = write_slide(tmp_path / "first.tif")
    (tmp_path / "copy.tif").write_bytes(first.read_bytes())
    write_slide(tmp_path / "other.tif")
    (tmp_path / "manifest.csv").write_text("slide_id,split\nfirst,train\ncopy,test\nother,test\n")
    lake.ok("ingest", str(tmp_path), "--manifest", str(tmp_path / "manifest.csv"))
    assert [row["slides"] for row in broken(lake)["slides_stand_on_one_side"]] == [["copy", "first"]]


def test_a_patient_on_two_sides_breaks_a_promise(lake: TestLake, tmp_path: Path) -> None:
    for name in ("left", "right"):
        write_slide(tmp_path / f"{name}.tif")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("slide_id,patient_id,split\nleft,p,train\nright,p,test\n")
    lake.ok("ingest", str(tmp_path), "--manifest", str(manifest))
    assert [row["patient_id"] for row in broken(lake)["patients_stand_on_one_side"]] == ["p"]


def test_a_training_slide_that_is_held_out_later_breaks_a_promise_and_is_not_measured(full_lake: TestLake) -> None:
    put_model(full_lake, training_slides=json.dumps(["normal_1", "tumor_1", "tumor_2"]))
    assert broken(full_lake) == {}
    moved = full_lake.read("slides").filter(slide_id="tumor_1").with_columns(split=pl.lit("test"))
    store.put(full_lake.root, "slides", moved.to_dicts(), "test")
    violations = broken(full_lake)["champion_was_trained_on_training_slides"]
    assert [(row["slide_id"], row["split"]) for row in violations] == [("tumor_1", "test")]
    before = full_lake.versions()
    refused = full_lake("evaluate")
    assert refused.status == 1
    assert "tumor_1 (test)" in refused.err
    assert full_lake.versions() == before
