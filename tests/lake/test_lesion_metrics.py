"""Detections, lesion metrics and slide scores on a small lake, end to end."""

from __future__ import annotations

import polars as pl
from support import TestLake

from lake import lesions, models, session, slide_scores


def test_x(full_lake: TestLake) -> None:
    row = models.find(full_lake.root, None)
    print(lesions.detect(full_lake.root, row, patch_set=row["patch_set"], run_id="test"))
    print(slide_scores.score_slides(full_lake.root, row, patch_set=row["patch_set"], run_id="test"))
    v = full_lake.versions()
    print(lesions.detect(full_lake.root, row, patch_set=row["patch_set"], run_id="test2"))
    print(slide_scores.score_slides(full_lake.root, row, patch_set=row["patch_set"], run_id="test"))
    assert v == full_lake.versions()
    print(full_lake.read("detections"))
    print(full_lake.read("slide_scores"))
    with session.connect(full_lake.root, udfs=lesions.FUNCTIONS) as con, pl.Config(tbl_rows=100):
        print(lesions.findings(con, row, patch_set=row["patch_set"]))
        print(lesions.lesion_metrics(con, row, patch_set=row["patch_set"]))
        print(slide_scores.slide_metrics(con, row, patch_set=row["patch_set"]))
