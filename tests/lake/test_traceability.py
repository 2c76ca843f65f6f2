"""Where results come from, whether they come out again, and what changes from one model to another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from support import TestLake, asap

from lake import bootstrap, models, session, store, training_rows
from lake.compare import paired_metrics
from lake.heatmap import render_heatmap
from lake.heatmap_grid import DIFFERENCE
from lake.places import Place, patches_at
from lake.recipe import recipe_of
from lake.store import Replacement
from udfs.errors import HistolakeError

FIRST, SECOND = "models:/histolake/1", "models:/histolake/2"
WRONG = (256, 128, 384, 256)  # drawn as tumor on tumor_2, where only a part of it is


@pytest.fixture(scope="module")
def retrained(finished: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> TestLake:
    """The finished lake after the annotation of tumor_2 was changed for a wrong one, and a second model."""
    folder = tmp_path_factory.mktemp("retrained")
    lake = TestLake(Path(shutil.copytree(finished[1] / "lake", folder / "lake")))
    (folder / "tumor_2.xml").write_text(asap([("Tumor", WRONG)]))
    lake.ok("ingest", "--annotations", str(folder / "tumor_2.xml"))
    lake.ok("run", *lake.tiling)
    lake.ok("train", "--encoder", "tiny")
    lake.ok("predict")
    return lake


@pytest.fixture
def changed(retrained: TestLake, tmp_path: Path) -> TestLake:
    """The same, to write to."""
    return TestLake(Path(shutil.copytree(retrained.root, tmp_path / "lake")))


def probabilities(lake: TestLake, uri: str) -> dict[tuple[str, int, int], float]:
    rows = lake.read("predictions").filter(model_id=models.find(lake.root, uri)["model_id"])
    return {row[:3]: row[3] for row in rows.select("slide_id", "x", "y", "probability").rows()}


# -- explain


def test_an_explanation_has_the_rows_behind_the_prediction_and_the_runs_that_wrote_them(retrained: TestLake) -> None:
    found = retrained.ok("explain", "tumor_1", "400", "300.5", "--model", FIRST, "--json").json()
    assert (found["patch"]["x"], found["patch"]["y"]) == (384, 256)
    ranked = sorted((p for key, p in probabilities(retrained, FIRST).items() if key[0] == "tumor_1"), reverse=True)
    probability = probabilities(retrained, FIRST)["tumor_1", 384, 256]
    assert found["prediction"]["probability"] == probability
    assert found["prediction"]["position"] == ranked.index(probability) + 1
    assert found["prediction"]["patches"] == len(ranked) == 64
    assert found["label"]["label"] == 1
    for thing, table, key in (("slide", "slides", "slide_id"), ("encoder", "encoders", "encoder_id"),
                              ("model", "models", "model_id"), ("patch_set", "patch_sets", "patch_set")):  # fmt: skip
        [row] = retrained.read(table).filter(pl.col(key) == found[thing][key]).to_dicts()
        row.pop("slopes", None)  # thousands of numbers tell a reader nothing
        assert {name: str(value) for name, value in found[thing].items()} == {
            name: value.isoformat() if name == "trained_at" else str(value) for name, value in row.items()
        }
    wrote = {stage: {entry["run_id"] for entry in entries} for stage, entries in found["ledger"].items()}
    ledger = retrained.read("runs").filter(pl.col("slide_id").is_null() | (pl.col("slide_id") == "tumor_1"))
    for stage in ("slides", "annotations", "patches", "labels", "features", "models", "encoders"):
        known = ledger.filter(stage=stage)
        assert len(wrote[stage]) == 1
        assert wrote[stage] <= set(known["run_id"])
    [scoring] = found["ledger"]["predictions"]
    assert scoring["identity"]["model_id"] == found["model"]["model_id"]
    assert scoring["input_versions"]["features"] == 1


def test_the_training_set_of_an_explanation_is_what_the_model_was_trained_on_then(retrained: TestLake) -> None:
    tumor = {}
    for uri in (FIRST, SECOND):
        row = models.find(retrained.root, uri)
        told = retrained.ok("explain", "tumor_1", "400", "300", "--model", uri, "--json").json()["training_set"]
        with session.connect(retrained.root, udfs=(), at=json.loads(row["table_versions"])) as con:
            data = training_rows.training_set(con, recipe_of(row))
        counts = {split["split"]: split for split in told["splits"]}
        assert counts["train"]["patches"] == (~data.is_validation).sum()
        assert counts["train"]["slides"] == len(np.unique(data.slides[~data.is_validation])) == 3
        assert counts["validation"]["tumor_patches"] == data.y[data.is_validation].sum()
        tumor[uri] = counts["train"]["tumor_patches"]
        assert tumor[uri] == data.y[~data.is_validation].sum()
    assert tumor == {FIRST: 20, SECOND: 32}


def test_the_tree_names_model_encoder_slide_and_whether_the_label_agrees(retrained: TestLake) -> None:
    out = retrained.ok("explain", "tumor_2", "300", "140", "--model", FIRST).out
    row = models.find(retrained.root, FIRST)
    text = " ".join(out.replace("│", " ").split())
    for word in (row["model_id"], row["mlflow_run_id"], row["encoder_id"], "tumor_2.tif", "the prediction disagrees"):
        assert word in text.replace(" ", "") or word in text
    assert "written" in out


def test_a_place_means_the_patch_with_the_nearest_centre_or_that_corner(full_lake: TestLake) -> None:
    row = models.find(full_lake.root, None)
    full_lake.ok("run", *full_lake.tiling, "--stride-px", "32", "--slide", "tumor_1", "--stage", "patches")
    [fine] = full_lake.read("patch_sets").filter(stride_px=32)["patch_set"].to_list()
    with session.connect(full_lake.root, udfs=()) as con:

        def at(x: float, y: float, model: object = None, patch_set: str | None = None) -> tuple[str, int, int]:
            [found] = patches_at(con, [Place("tumor_1", x, y)], model, patch_set)
            return found["patch_set"], found["x"], found["y"]

        assert at(401, 300) == (fine, 384, 256)
        assert at(384 + 40, 256 + 40) == (fine, 384, 256)
        assert at(384 + 50, 256 + 50) == (fine, 416, 288)
        assert at(416, 288) == (fine, 416, 288)
        assert at(416, 288.5) == (fine, 384, 256)
        assert at(416, 288, row) == (row["patch_set"], 384, 256)  # the only tiling that the model has scored
        assert at(416, 288, row, fine) == (fine, 416, 288)
        places = [Place("tumor_1", x + 1, 300) for x in (256, 512, 320)] + [Place("normal_1", 300, 300)]
        assert [(p["slide_id"], p["x"]) for p in patches_at(con, places, row)] == [
            ("tumor_1", 256), ("tumor_1", 512), ("tumor_1", 320), ("normal_1", 256)
        ]  # fmt: skip
        assert patches_at(con, [], row) == []


def test_what_cannot_be_explained_says_why(full_lake: TestLake) -> None:
    answer = full_lake("explain", "tumor_9", "1", "1")
    assert answer.status == 1
    assert "no slide 'tumor_9' in the lake; it has normal_1, normal_2, tumor_1" in answer.err
    answer = full_lake("explain", "tumor_1", "10", "10")
    assert answer.status == 1
    assert "no patch at 10, 10; the nearest begins at 256, 128 (grid-64px" in answer.err
    full_lake.ok("run", *full_lake.tiling, "--stride-px", "32", "--slide", "tumor_1", "--stage", "patches")
    [fine] = full_lake.read("patch_sets").filter(stride_px=32)["patch_set"].to_list()
    answer = full_lake("explain", "tumor_1", "400", "300", "--patch-set", fine)
    assert answer.status == 1
    assert "has no prediction of model" in answer.err
    answer = full_lake("explain", "tumor_1", "400", "300", "--patch-set", "nothing")
    assert answer.status == 1
    assert f"no such patch set; there are {fine}" in answer.err


# -- reproduce


def test_a_model_comes_out_again_after_the_annotations_changed(retrained: TestLake) -> None:
    before, runs = retrained.versions(), sorted(retrained.root.glob("mlflow/artifacts/**/*"))
    first, second = (models.find(retrained.root, uri) for uri in (FIRST, SECOND))
    assert first["model_id"] != second["model_id"]
    for row in (first, second):
        found = retrained.ok("reproduce", row["mlflow_run_id"], "--json").json()
        assert found["is_equal"] is True
        assert found["reproduced_model_id"] == row["model_id"]
        assert {metric["metric"] for metric in found["metrics"]} >= {"train_auc", "validation_auc", "train_brier"}
        assert max(abs(metric["difference"]) for metric in found["metrics"]) < 1e-6
    assert retrained.versions() == before
    assert sorted(retrained.root.glob("mlflow/artifacts/**/*")) == runs


def test_metrics_that_do_not_come_out_again_are_named(changed: TestLake) -> None:
    row = models.find(changed.root, FIRST)
    models.tracking(changed.root).log_metric(row["mlflow_run_id"], "train_brier", 0.123)
    changed_row = {**row, "code_version": "0.0.1"}
    store.put(changed.root, "models", [changed_row], "test")
    answer = changed("reproduce", row["model_id"])
    assert answer.status == 1
    assert "not reproduced: 1 of" in answer.err
    assert "(train_brier); histolake was 0.0.1, is " in answer.err


def test_a_table_version_that_was_vacuumed_is_named(changed: TestLake) -> None:
    changed.ok("vacuum", "annotations", "--keep-hours", "0")
    changed.ok("vacuum", "labels", "--keep-hours", "0")
    answer = changed("reproduce", FIRST)
    assert answer.status == 1
    assert "annotations: version 1 cannot be read" in answer.err
    assert "vacuum" in answer.err
    told = changed.ok("explain", "tumor_1", "400", "300", "--model", FIRST, "--json").json()["training_set"]
    assert told["splits"] is None
    assert "annotations: version 1" in told["gone"]


def test_training_again_after_other_commands_makes_no_second_model(changed: TestLake) -> None:
    changed.ok("review", "tumor_1", "400", "300", "tumor")
    assert changed.ok("train", "--encoder", "tiny", "--json").json()["is_new"] is False


# -- compare


def test_a_comparison_sets_stored_metrics_side_by_side(changed: TestLake) -> None:
    a, b = (models.find(changed.root, uri)["model_id"] for uri in (FIRST, SECOND))
    stored = [row for row in changed.read("metrics").to_dicts() if row["value"] is not None and row["name"] != "tp"]
    store.put(changed.root, "metrics", [{**row, "model_id": b, "value": row["value"] + 0.25} for row in stored], "t")
    found = changed.ok("compare", FIRST, SECOND, "--json").json()["metrics"]
    assert len(found) == changed.read("metrics").filter(model_id=a).height
    for row in found:
        is_told = row["name"] != "tp" and row["value_a"] is not None
        assert row["difference"] == (pytest.approx(0.25) if is_told else None)
        assert row["is_same_lake"] is (True if row["value_b"] is not None else None)
    other = json.dumps({"slides": 1, "annotations": 2, "patches": 1, "labels": 2})
    store.put(changed.root, "metrics", [{**stored[0], "model_id": b, "table_versions": other}], "t")
    answer = changed.ok("compare", FIRST, SECOND, "--split", "test")
    assert "train" not in answer.out
    assert "not all were measured on the same" in changed.ok("compare", FIRST, SECOND).err


def test_a_comparison_tells_which_patches_and_slides_flip(changed: TestLake, tmp_path: Path) -> None:
    a, b = probabilities(changed, FIRST), probabilities(changed, SECOND)
    thresholds = [float(np.quantile(list(each.values()), share)) for each, share in ((a, 0.95), (b, 0.4))]
    rows = [models.find(changed.root, uri) for uri in (FIRST, SECOND)]
    thresholded = [{**row, "threshold": value} for row, value in zip(rows, thresholds, strict=True)]
    store.put(changed.root, "models", thresholded, "test")
    found = changed.ok("compare", FIRST, SECOND, "--json").json()["slides"]
    assert {row["slide_id"] for row in found} == {key[0] for key in a}
    for row in found:
        keys = [key for key in a if key[0] == row["slide_id"]]
        flips = [(a[key] >= thresholds[0], b[key] >= thresholds[1]) for key in keys]
        scores = [np.mean(sorted(each[key] for key in keys)[-10:]) for each in (a, b)]
        assert row["patches"] == len(keys)
        assert row["to_tumor"] == flips.count((False, True))
        assert row["to_normal"] == flips.count((True, False))
        assert row["is_flipped"] is bool((scores[0] >= thresholds[0]) != (scores[1] >= thresholds[1]))
        assert row["score_b"] == pytest.approx(scores[1])
        assert row["mean_difference"] == pytest.approx(np.mean([b[key] - a[key] for key in keys]))
    assert any(row["is_flipped"] for row in found)
    assert [row["to_tumor"] > 0 for row in found if row["split"] == "validation"] == [True]
    told = changed.ok("compare", FIRST, SECOND, "--split", "validation", "--out", str(tmp_path / "out"))
    assert f"wrote {tmp_path}/out/tumor_3.png" in told.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tumor_3.png"]


def test_slides_that_are_asked_for_are_drawn_and_those_without_a_flip_are_not(
    retrained: TestLake, tmp_path: Path
) -> None:
    thresholds = [models.find(retrained.root, uri)["threshold"] for uri in (FIRST, SECOND)]
    a, b = probabilities(retrained, FIRST), probabilities(retrained, SECOND)
    keys = [key for key in a if key[0] == "normal_1"]
    assert all((a[key] >= thresholds[0]) == (b[key] >= thresholds[1]) for key in keys)
    retrained.ok("compare", FIRST, SECOND, "--slide", "normal_1", "--out", str(tmp_path / "asked"), "--split", "train")
    assert [path.name for path in (tmp_path / "asked").iterdir()] == ["normal_1.png"]
    answer = retrained("compare", FIRST, SECOND, "--slide", "nothing")
    assert answer.status == 1
    assert "but no slide of that --split and --slide" in answer.err


def test_differences_of_models_on_the_same_patches_carry_an_interval_over_slides() -> None:
    rng = np.random.default_rng(3)
    label = np.tile([0, 0, 1], 40)
    a, b = (np.clip(label * shift + rng.normal(0.4, 0.3, 120), 0, 1).round(1) for shift in (0.1, 0.5))
    slides = np.repeat([f"s{number}" for number in range(8)], 15)
    rows = pl.DataFrame(
        {"split": "test", "slide_id": slides, "label": label, "probability_a": a, "probability_b": b}
    ).with_columns(threshold_a=pl.lit(0.5), threshold_b=pl.lit(0.7))
    auc, balanced = paired_metrics(rows)
    assert auc["difference"] == pytest.approx(roc_auc_score(label, b) - roc_auc_score(label, a))
    assert balanced["value_b"] == pytest.approx(balanced_accuracy_score(label, b >= 0.7))
    weight = np.repeat(bootstrap.weights(8), 15, axis=1)

    def aucs(score: np.ndarray) -> np.ndarray:
        tumor, normal = (np.flatnonzero(label == side) for side in (1, 0))
        wins = np.sign(score[tumor][:, None] - score[normal]) / 2 + 0.5
        pairs = weight[:, tumor].sum(axis=1) * weight[:, normal].sum(axis=1)
        return ((weight[:, tumor] @ wins) * weight[:, normal]).sum(axis=1) / pairs

    drawn = aucs(b) - aucs(a)
    assert (auc["low"], auc["high"]) == pytest.approx(bootstrap.interval(drawn))
    same = paired_metrics(rows.with_columns(probability_b="probability_a", threshold_b="threshold_a"))
    assert [(row["difference"], row["low"], row["high"]) for row in same] == [(0, 0, 0)] * 2
    one_slide = paired_metrics(rows.filter(slide_id="s1"))
    assert {row["low"] for row in one_slide} == {None}
    one_class = paired_metrics(rows.filter(label=0))
    assert {row["difference"] for row in one_class} == {None}


def test_models_that_share_no_patch_cannot_be_compared(changed: TestLake) -> None:
    row = models.find(changed.root, FIRST)
    answer = changed("compare", FIRST, row["model_id"])
    assert answer.status == 1
    assert "are the same model" in answer.err
    empty = pa.schema(store.open_table(changed.root, "predictions").schema()).empty_table()
    gone = [Replacement({"model_id": row["model_id"]})]
    store.replace(changed.root, "predictions", empty, gone, [store.entry("predictions", run_id="test")])
    answer = changed("compare", FIRST, SECOND)
    assert answer.status == 1
    assert f"{row['model_id']} has scored nothing" in answer.err


def test_a_change_is_drawn_red_where_the_probability_grew_and_blue_where_it_fell(retrained: TestLake) -> None:
    [path] = retrained.read("slides").filter(slide_id="tumor_1")["path"].to_list()
    spans = {"x": [256.0, 512.0], "y": [128.0, 128.0], "span_x": 256.0, "span_y": 512.0}
    tiles = pl.DataFrame(spans).with_columns(difference=pl.Series([1.0, -1.0]))
    image = render_heatmap(path, tiles, title="t", mpp_x=1, mpp_y=1, scale=DIFFERENCE, long_edge_px=1024)
    pixels = np.asarray(image).astype(int)
    left, right = pixels[500, 20 + 380], pixels[500, 20 + 640]
    assert left[0] - left[2] > 25
    assert right[2] - right[0] > 25
    with pytest.raises(HistolakeError, match=r"1\.5 is no difference: 1 tiles lie outside -1 to 1"):
        render_heatmap(path, tiles.with_columns(difference=pl.lit(1.5)).head(1), title="t", mpp_x=1, mpp_y=1,
                       scale=DIFFERENCE)  # fmt: skip


# -- label errors and reviews


def test_wrong_labels_are_found_and_right_ones_are_not_doubted(retrained: TestLake, tmp_path: Path) -> None:
    found = retrained.ok("label-errors", "--json").json()
    x, y, width, height = WRONG
    tumor = (320, 192, 192, 256)  # what is tumor on tumor_2
    wrong = {
        (a, b)
        for a in range(256, 768, 64)
        for b in range(128, 640, 64)
        if (x <= a < x + width and y <= b < y + height)
        != (tumor[0] <= a < tumor[0] + tumor[2] and tumor[1] <= b < tumor[1] + tumor[3])
    }
    assert {(row["slide_id"], row["x"], row["y"]) for row in found} == {("tumor_2", *place) for place in wrong}
    assert [row["position"] for row in found] == list(range(1, len(wrong) + 1))
    doubts = [row["label_probability"] for row in found]
    assert doubts == sorted(doubts)
    answer = retrained.ok("label-errors", "--limit", "4", "--out", str(tmp_path / "sheet.png"))
    assert "4 lie on training slides" in answer.err
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 160
    assert retrained.ok("label-errors", "--slide", "normal_*", "--json").json() == []


def test_verdicts_are_added_the_newest_holds_and_reviewed_patches_leave_the_worklist(changed: TestLake) -> None:
    first = changed.ok("label-errors", "--json").json()[0]
    place = (first["slide_id"], str(first["x"]), str(first["y"]))
    changed.ok("review", *place, "normal", "--note", "stroma; it's pink", "--reviewer", "O'Hara")
    changed.ok("review", *place, "unsure", "--reviewer", "Li")
    kept = changed.read("reviews").sort("reviewed_at")
    assert kept.select("verdict", "reviewer", "note").rows() == [
        ("normal", "O'Hara", "stroma; it's pink"), ("unsure", "Li", None)
    ]  # fmt: skip
    assert kept["probability"].to_list() == [first["probability"]] * 2
    assert kept["label"].to_list() == [first["label"]] * 2
    assert set(kept["model_id"]) == {models.champion(changed.root)}
    with session.connect(changed.root, udfs=()) as con:
        now = con.table("reviewed_labels").pl().to_dicts()
    assert [(row["x"], row["y"], row["verdict"], row["label"]) for row in now] == [
        (first["x"], first["y"], "unsure", None)
    ]
    left = [(row["slide_id"], row["x"], row["y"]) for row in changed.ok("label-errors", "--json").json()]
    assert (first["slide_id"], first["x"], first["y"]) not in left
    assert len(left) == 17
    told = changed.ok("explain", *place, "--json").json()["review"]
    assert (told["verdict"], told["reviewer"]) == ("unsure", "Li")


def test_many_verdicts_come_from_a_file_all_or_none(changed: TestLake, tmp_path: Path) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_text(
        "slide_id,x,y,verdict,note,reviewer\n"
        "tumor_1,400.5,300,normal,,Ada\n"
        'tumor_3,300,200,tumor,"a, b",\n'
        "tumor_1,400,300,tumor,second look,Ada\n"
    )
    changed.ok("review", "--from", str(file), "--reviewer", "Bo")
    with session.connect(changed.root, udfs=()) as con:
        rows = con.table("reviewed_labels").pl().sort("slide_id")
    assert rows.select("slide_id", "x", "y", "label", "note", "reviewer").rows() == [
        ("tumor_1", 384, 256, 1, "second look", "Ada"), ("tumor_3", 256, 192, 1, "a, b", "Bo")
    ]  # fmt: skip
    before = changed.read("reviews").height
    for line, words in (
        ("tumor_1,400,300,tumour,,", "'tumour' is no verdict; say tumor, normal, unsure"),
        ("tumor_1,here,300,tumor,,", "line 3: x and y must be numbers"),
        ("tumor_1,1,300,tumor,,", "no patch at 1, 300"),
        ("nobody,400,300,tumor,,", "no slide 'nobody'"),
    ):
        file.write_text(f"slide_id,x,y,verdict,note,reviewer\ntumor_1,400,300,tumor,,\n{line}\n")
        answer = changed("review", "--from", str(file))
        assert answer.status == 1
        assert words in answer.err
    file.write_text("slide,x,y\n")
    assert "lacks the column slide_id" in changed("review", "--from", str(file)).err
    file.write_text("")
    assert "cannot be read as CSV" in changed("review", "--from", str(file)).err
    assert changed.read("reviews").height == before == 3


def test_a_review_of_a_patch_that_is_gone_is_a_broken_promise(changed: TestLake) -> None:
    changed.ok("review", "tumor_1", "400", "300", "tumor")
    [row] = changed.read("reviews").to_dicts()
    store.append(changed.root, "reviews", [{**row, "x": 5, "reviewer": "b"}, {**row, "verdict": "cancer"}], "test")
    broken = {check["name"] for check in json.loads(changed("check", "--json").out) if check["violations"]}
    assert {"reviews_have_patches", "verdicts_are_known", "keys_are_unique"} <= broken
