"""Units of work in the table predictions, as other processes write them, too."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from lake import store
from lake.store import Replacement
from lake.tables import PREDICTIONS

IDENTITY = {"patch_set": "p", "model_id": "m"}


def rows_of(slide_id: str, count: int, probability: float = 0.5, bucket: int = 0) -> pa.Table:
    """Predictions of one unit."""
    row = {
        "slide_id": slide_id,
        **IDENTITY,
        "part": 0,
        "y": 0,
        "probability": probability,
        "fingerprint": "f",
        "bucket": bucket,
    }
    return pa.Table.from_pylist([{**row, "x": x} for x in range(count)], schema=PREDICTIONS.schema)


def write(root: Path, slide_id: str, count: int, probability: float = 0.5, bucket: int = 0) -> None:
    """Replace one unit."""
    where = {"slide_id": slide_id, "part": 0, "bucket": bucket, **IDENTITY}
    done = store.entry("predictions", run_id=f"{slide_id}-{probability}", rows=count)
    store.replace(root, "predictions", rows_of(slide_id, count, probability, bucket), [Replacement(where)], [done])


def writer(root: Path, number: int) -> None:
    """What one of several processes writes: its slide, three times over, in a bucket that all share."""
    for attempt in range(3):
        write(root, f"slide_{number}", 10, probability=attempt / 10)
