"""What the lesion task and the slide task count, on slides made by hand and on a small lake."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_slides import Slide, database
from sklearn.metrics import roc_auc_score
from support import TestLake, write_slide

from lake import lesions, models, session, slide_scores

MODEL = {"model_id": "m"}
NOTHING = shapely.Polygon()
LARGE, OTHER, SMALL = (
    shapely.box(x, 1000, x + size, 1000 + size) for x, size in ((1000, 1500), (5000, 1500), (9000, 99))
)


def measured(slides: list[Slide], **options: object) -> dict[tuple[str, str], float | None]:
    """(split, name) to value."""
    found = lesions.lesion_metrics(database(slides), MODEL, patch_set="p", **options)  # type: ignore[arg-type]
    return {(split, name): value for split, name, value in found.select("split", "name", "value").iter_rows()}


def test_a_lesion_counts_once_and_isolated_tumor_cells_not_at_all() -> None:
    """Two lesions and one of isolated cells; one lesion is hit twice, the cells once, and once nothing is."""
    tumor = shapely.union_all([LARGE, OTHER, SMALL])
    hits = [(0.9, 1700.0, 1700.0), (0.4, 1200.0, 1200.0), (0.8, 9050.0, 1050.0), (0.7, 4000.0, 4000.0)]
    found = measured([Slide("one", tumor, hits), Slide("two", NOTHING, [])])
    counts = {name: found["test", name] for name in ("slides", "lesions", "lesions_found", "itcs", "false_positives")}
    assert counts == {"slides": 2, "lesions": 2, "lesions_found": 1, "itcs": 1, "false_positives": 1}
    assert found["test", "froc"] == found["test", "sensitivity_at_0.25"] == 0.5


def test_thresholds_include_what_stands_at_them() -> None:
    """The second lesion and two false positives share a probability: they come at one price."""
    hits = [(0.9, 1700.0, 1700.0), (0.6, 5700.0, 1700.0), (0.6, 4000.0, 4000.0), (0.6, 4000.0, 4500.0)]
    found = measured([Slide("one", shapely.union_all([LARGE, OTHER]), hits)])
    rates = ["0.25", "0.5", "1", "2", "4", "8"]
    assert [found["test", f"sensitivity_at_{rate}"] for rate in rates] == [0.5, 0.5, 0.5, 1, 1, 1]
    assert found["test", "froc"] == 0.75
    between = [0.5 + 0.5 * rate / 2 for rate in (0.25, 0.5, 1)]
    assert found["test", "froc_ncrf"] == pytest.approx(np.mean([*between, 1, 1, 1]))


def test_every_hit_on_a_normal_slide_is_a_false_positive_and_every_evaluated_slide_shares_them() -> None:
    normal = [Slide("n1", NOTHING, [(0.95, 10.0, 10.0)]), Slide("n2", None, [], label="normal")]
    found = measured([Slide("one", LARGE, [(0.9, 1700.0, 1700.0)]), *normal, Slide("n3", NOTHING, [])])
    assert (found["test", "slides"], found["test", "false_positives"]) == (4, 1)
    assert found["test", "sensitivity_at_0.25"] == 1  # one on four slides is a quarter a slide


def test_slides_whose_tumor_nobody_outlined_are_not_evaluated() -> None:
    unknown = [Slide("unseen", None, [(1.0, 1.0, 1.0)]), Slide("said", NOTHING, [(1.0, 1.0, 1.0)], label="tumor")]
    found = measured([Slide("one", LARGE, [(0.9, 1700.0, 1700.0)]), *unknown])
    assert (found["test", "slides"], found["test", "false_positives"]) == (1, 0)
    assert measured(unknown) == {}


def test_ncrfs_number_leaves_out_two_slides_whatever_the_case_of_their_names() -> None:
    left_out = [Slide(name, LARGE, []) for name in ("Test_049", "test_114")]
    found = measured([Slide("Test_001", LARGE, [(0.9, 1700.0, 1700.0)]), *left_out])
    assert (found["test", "froc"], found["test", "froc_ncrf"]) == (pytest.approx(1 / 3), 1)


def test_splits_are_counted_by_themselves_and_one_without_lesions_has_no_sensitivity() -> None:
    found = measured([Slide("one", LARGE, [(0.9, 1700.0, 1700.0)], "train"), Slide("two", NOTHING, [(0.5, 1.0, 1.0)])])
    assert (found["train", "froc"], found["test", "froc"], found["test", "sensitivity_at_8"]) == (1, None, None)
    assert (found["test", "false_positives"], found["test", "lesions"]) == (1, 0)


def test_a_resolution_for_all_slides_takes_the_place_of_their_own() -> None:
    """200 microns by the slide's own resolution, 97 by the fixed one."""
    slide = Slide("one", shapely.box(1000, 1000, 1400, 1400), [], mpp=(0.5, 0.5))
    assert (measured([slide])["test", "itcs"], measured([slide], mpp=0.243)["test", "itcs"]) == (0, 1)


events = st.tuples(st.integers(0, 5), st.sampled_from(["lesion", "false positive"]), st.integers(0, 12))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(rows=st.lists(events, max_size=40))
def test_drawing_every_slide_once_gives_the_numbers_of_the_sql(rows: list[tuple[int, str, int]]) -> None:
    """And drawing some twice and others never gives those of a lake of just these slides."""
    slides = [(f"test_0{47 + number}", "slide", None) for number in range(6)]
    counted = [
        (f"test_0{47 + number}", kind, p / 12 if p else None) for number, kind, p in rows if p or kind == "lesion"
    ]
    schema = {"slide_id": pl.String, "kind": pl.String, "probability": pl.Float64}
    found = pl.DataFrame(slides + counted, schema, orient="row").with_columns(split=pl.lit("test"))
    drawn = np.array([2, 0, 1, 3, 0, 0])
    again = pl.concat(
        found.filter(slide_id=f"test_0{47 + number}").with_columns(pl.col("slide_id") + suffix)
        for number, times in enumerate(drawn)
        for suffix in ["", " again", " and again"][:times]
    )
    left_out = ["test_049", "test_049 again", "test_114"]
    with database([Slide("any", NOTHING, [])]) as con:
        for frame, weights in ((found, np.ones(6, np.int64)), (again, drawn)):
            values = lesions.resampled(lesions.events(found, left_out), weights)
            expected = dict(lesions.froc(con, frame, left_out).select("name", "value").iter_rows())
            for name, value in values.items():
                assert (None if np.isnan(value) else round(value, 12)) == expected[name], name


def test_intervals_hold_the_value_and_narrow_with_the_number_of_slides() -> None:
    def slides(count: int) -> list[Slide]:
        hit = [(0.9, 1700.0, 1700.0)]
        return [Slide(f"s{n}", LARGE, hit if n % 3 else [(0.5, 1.0, 1.0)]) for n in range(count)]

    widths = []
    for count in (12, 48):
        found = lesions.lesion_metrics(database(slides(count)), MODEL, patch_set="p")
        (row,) = found.filter(name="froc").to_dicts()
        assert 0 < row["low"] < row["value"] < row["high"] <= 1
        widths.append(row["high"] - row["low"])
        assert found.filter(name="lesions").select("low", "high").row(0) == (None, None)
    assert widths[1] < 0.7 * widths[0]


# -- slides


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(1, 3)), min_size=2, max_size=30))
def test_the_auc_of_slides_drawn_several_times_is_scikit_learns(rows: list[tuple[int, bool, int]]) -> None:
    scores, is_tumor, weights = (np.array(column) for column in zip(*rows, strict=True))
    (found,) = slide_scores.resampled_auc(scores / 8, is_tumor, weights[None, :])
    if is_tumor.all() or not is_tumor.any():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(is_tumor, scores, sample_weight=weights))


def statistics(tumor: int, normal: int) -> pl.DataFrame:
    """Random heatmaps' statistics of that many training slides, and of four test slides that differ from them."""
    rng = np.random.default_rng(3)
    is_tumor = np.array([True] * tumor + [False] * normal + [True, False, None, None], object)
    columns = {name: rng.random(len(is_tumor)) + (is_tumor == True) for name in slide_scores.STATISTICS}  # noqa: E712
    split = ["train"] * (tumor + normal) + ["test"] * 4
    return pl.DataFrame({"split": split, "is_tumor": pl.Series(is_tumor.tolist(), dtype=pl.Boolean), **columns})


def test_the_logistic_score_learns_from_training_slides_only_and_the_same_every_time() -> None:
    slides = statistics(6, 6)
    scores, reason = slide_scores.logistic_scores(slides)
    assert reason is None
    assert scores.equals(slide_scores.logistic_scores(slides)[0])
    assert scores[:6].min() > scores[6:12].max()
    turned = slides.with_columns(is_tumor=pl.when(split="test").then(~pl.col("is_tumor")).otherwise("is_tumor"))
    assert slide_scores.logistic_scores(turned)[0].equals(scores)


@pytest.mark.parametrize(("tumor", "normal"), [(6, 0), (2, 6), (0, 0)])
def test_without_training_slides_of_both_kinds_there_is_no_logistic_score_and_a_reason(tumor: int, normal: int) -> None:
    scores, reason = slide_scores.logistic_scores(statistics(tumor, normal))
    assert scores.null_count() == len(scores) == tumor + normal + 4
    assert reason
    assert f"{tumor} tumor and {normal} normal training slides" in reason


def test_a_lakes_slides_are_scored_and_measured_and_a_second_time_changes_nothing(full_lake: TestLake) -> None:
    root, row = full_lake.root, models.find(full_lake.root, None)
    lesions.detect(root, row, patch_set=row["patch_set"], run_id="test")
    reason = slide_scores.score_slides(root, row, patch_set=row["patch_set"], run_id="test")
    assert reason
    assert "2 tumor and 1 normal" in reason
    before = full_lake.versions()
    assert slide_scores.score_slides(root, row, patch_set=row["patch_set"], run_id="test") == reason
    assert full_lake.versions() == before
    scores = full_lake.read("slide_scores")
    predictions = full_lake.read("predictions")
    for (slide_id,), rows in predictions.group_by("slide_id"):
        top = rows["probability"].sort(descending=True).head(10)
        found = dict(scores.filter(slide_id=slide_id).select("name", "score").rows())
        assert found == {"max": top[0], "mean_top10": pytest.approx(top.mean())}
    with session.connect(root, udfs=lesions.FUNCTIONS) as con:
        slide = slide_scores.slide_metrics(con, row, patch_set=row["patch_set"]).filter(split="test")
        lesion = lesions.lesion_metrics(con, row, patch_set=row["patch_set"]).filter(split="test")
    assert slide.select("name", "value").rows() == [
        ("auc_max", 1.0),
        ("auc_mean_top10", 1.0),
        ("normal_slides", 1.0),
        ("tumor_slides", 1.0),
    ]
    values = dict(lesion.select("name", "value").rows())
    assert (values["slides"], values["lesions"], values["froc"], values["froc_ncrf"]) == (2, 1, 1, 1)


def test_a_slide_that_changed_is_not_evaluated_until_it_is_scored_again(full_lake: TestLake) -> None:
    root, row = full_lake.root, models.find(full_lake.root, None)
    lesions.detect(root, row, patch_set=row["patch_set"], run_id="test")
    slide_scores.score_slides(root, row, patch_set=row["patch_set"], run_id="test")
    slides = root.parent / "slides"
    write_slide(slides / "tumor_4.tif", tissue=(0, 0, 256, 256), tumor=(0, 0, 128, 128))
    full_lake.ok("ingest", str(slides), "--annotations", str(slides), "--manifest", str(slides / "manifest.csv"))
    with session.connect(root, udfs=lesions.FUNCTIONS) as con:
        slide = slide_scores.slide_metrics(con, row, patch_set=row["patch_set"]).filter(split="test")
        lesion = lesions.lesion_metrics(con, row, patch_set=row["patch_set"]).filter(split="test")
    assert dict(slide.select("name", "value").rows())["tumor_slides"] == 0
    assert dict(lesion.select("name", "value").rows())["slides"] == 1
