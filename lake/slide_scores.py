"""Camelyon16's slide task: scores of slides from their heatmaps, and how well they tell tumor from normal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lake import bootstrap, session, store
from lake.choices import Peaks
from lake.sql_files import query
from lake.tables import SLIDE_SCORES

TOP = 10  # patches that the score mean_top10 is the mean of
STATISTICS = ("highest", "mean_top", "mean", "share_half", "share_most", "log_peaks")
FEWEST = 3  # training slides of a kind that a logistic regression over statistics needs


def score_slides(
    root: Path, model_row: Mapping[str, Any], *, patch_set: str, peaks: Peaks | None = None, run_id: str
) -> str | None:
    """Score the slides that the model has scored patches of, and write what has changed to `slide_scores`.

    Returns why there is no score 'logistic', or None when there is.
    """
    selection = {"model_id": model_row["model_id"], "patch_set": patch_set}
    with session.connect(root, udfs=()) as con:
        parameters = {**selection, **(peaks or Peaks()).parameters, "top": TOP}
        statistics = con.execute(query("metrics/heatmap_statistics"), parameters).pl()
        kept = con.table("slide_scores").pl().filter(**selection)
    learned, reason = logistic_scores(statistics)
    scores = statistics.with_columns(max="highest", **{f"mean_top{TOP}": "mean_top"}, logistic=learned)
    rows = (
        scores.unpivot(["max", f"mean_top{TOP}", "logistic"], index=["slide_id", "fingerprint"], variable_name="name")
        .drop_nulls("value")
        .select(
            "slide_id", "name", "fingerprint", score="value", **{key: pl.lit(each) for key, each in selection.items()}
        )
        .select(SLIDE_SCORES.schema.names)
    )
    if not rows.sort(pl.all()).equals(kept.select(rows.columns).sort(pl.all())):
        entry = store.entry("slide_scores", run_id=run_id, rows=len(rows), parameters=parameters)
        table = rows.to_arrow().cast(SLIDE_SCORES.schema)
        store.replace(root, "slide_scores", table, [store.Replacement(selection)], [entry])
    return reason


def logistic_scores(statistics: pl.DataFrame) -> tuple[pl.Series, str | None]:
    """The probability of tumor of every slide by a logistic regression that is fitted on training slides alone.

    Its inputs are STATISTICS, standardised. Fitted anew each time, and the same on the same heatmaps. Without
    enough training slides of both kinds all scores are null; the second value tells why.
    """
    training = statistics.filter(pl.col("split") == "train", pl.col("is_tumor").is_not_null())
    tumor = int(training["is_tumor"].sum())
    normal = len(training) - tumor
    if min(tumor, normal) < FEWEST:
        reason = (
            f"slide score 'logistic': {tumor} tumor and {normal} normal training slides of known state are scored; "
            f"it needs {FEWEST} of each"
        )
        return pl.Series([None] * len(statistics), dtype=pl.Float64), reason
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(training.select(STATISTICS).to_numpy(), training["is_tumor"].to_numpy())
    fitted = model.predict_proba(statistics.select(STATISTICS).to_numpy())[:, 1]
    return pl.Series(np.round(fitted, 12)), None


def slide_metrics(con: duckdb.DuckDBPyConnection, model_row: Mapping[str, Any], *, patch_set: str) -> pl.DataFrame:
    """The slide task's numbers of a model whose slides are scored, see sql/metrics/slide_auc.sql.

    Returns split, name, value, low, high, the 95 % interval by bootstrap over slides; counts have none.
    Empty where no slide of known state is scored.
    """
    selection = {"model_id": model_row["model_id"], "patch_set": patch_set}
    measured = con.execute(query("metrics/slide_auc"), selection).pl()
    scored = con.table("scored_slides").pl().filter(**selection).sort("slide_id")
    bounds = []
    for (split, name), rows in scored.group_by("split", "name", maintain_order=True):
        drawn = bootstrap.weights(len(rows))
        low, high = bootstrap.interval(resampled_auc(rows["score"].to_numpy(), rows["is_tumor"].to_numpy(), drawn))
        bounds.append({"split": split, "name": f"auc_{name}", "low": low, "high": high})
    schema = {"split": pl.String, "name": pl.String, "low": pl.Float64, "high": pl.Float64}
    return measured.join(pl.DataFrame(bounds, schema), on=["split", "name"], how="left", maintain_order="left")


def resampled_auc(
    scores: NDArray[np.float64], is_tumor: NDArray[np.bool_], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """AUC over slides that count as often as their weights say, (draws, slides); NaN in draws of one kind only."""
    tumor, normal = weights[:, is_tumor], weights[:, ~is_tumor]
    above = np.sign(scores[is_tumor][:, None] - scores[~is_tumor][None, :]) / 2 + 0.5
    won = ((tumor @ above) * normal).sum(axis=1)
    pairs = tumor.sum(axis=1) * normal.sum(axis=1)
    auc: NDArray[np.float64] = np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return auc
