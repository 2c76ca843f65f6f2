"""The worklist of likely label errors, and what reviewers say of them."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lake import models, session, store
from lake.places import Place, patches_at
from lake.sql_files import query
from udfs.errors import HistolakeError, ModelError

VERDICTS = ("tumor", "normal", "unsure")


@dataclass(frozen=True)
class Verdict:
    """What a reviewer says of the patch at a place."""

    place: Place
    verdict: str
    note: str | None
    reviewer: str


def label_errors(
    root: Path, *, model: str | None, slides: Sequence[str], most: int
) -> tuple[dict[str, Any], pl.DataFrame]:
    """The model's row, and the patches of sql/app/label_errors.sql, of the tiling that it was trained on.

    Raises ModelError when the model has no prediction on a labelled patch.
    """
    row = models.find(root, model)
    selection = {"model_id": row["model_id"], "patch_set": row["patch_set"]}
    with session.connect(root, udfs=()) as con:
        parameters = {**selection, "slides": list(slides), "patches": most}
        found = con.execute(query("app/label_errors"), parameters).pl()
        if found.is_empty():
            any_scored = "from scored_patches where model_id = $model_id and patch_set = $patch_set limit 1"
            if not con.execute(any_scored, selection).fetchall():
                raise ModelError(
                    f"model {row['model_id']} has scored no labelled patch of {row['patch_set']}; "
                    "`histolake predict` scores, `histolake ingest --annotations` and `histolake run` label"
                )
    return row, found


def review(
    root: Path, verdicts: Sequence[Verdict], *, model: str | None, patch_set: str | None, run_id: str
) -> list[dict[str, Any]]:
    """Add verdicts to the table reviews, all or none, each with the model's probability and the label; returns them.

    model: as for `models.find`; without one the champion, and where there is none the verdicts stand alone.
    Raises HistolakeError for a place without a patch, and a word that is no verdict.
    """
    for each in verdicts:
        if each.verdict not in VERDICTS:
            raise HistolakeError(
                f"slide {each.place.slide_id} at {each.place.x:g}, {each.place.y:g}: {each.verdict!r} is no verdict; "
                f"say {', '.join(VERDICTS)}"
            )
    row = models.find(root, model) if model or models.champion(root) else None
    with session.connect(root, read_only=False, udfs=()) as con:
        patches = patches_at(con, [each.place for each in verdicts], row, patch_set)
    now = store.time_after(root, datetime.now(UTC))  # of two verdicts on a patch the later holds
    columns = ("slide_id", "patch_set", "x", "y", "model_id", "probability", "label")
    rows = [
        {
            **{name: patch[name] for name in columns},
            "verdict": each.verdict,
            "note": each.note,
            "reviewer": each.reviewer,
            "reviewed_at": now + timedelta(microseconds=number),
        }
        for number, (each, patch) in enumerate(zip(verdicts, patches, strict=True))
    ]
    store.time_after(root, now + timedelta(microseconds=len(rows)))  # the ledger's entry is later than all of them
    store.append(root, "reviews", rows, run_id)
    return rows


def read_verdicts(path: Path, reviewer: str | None) -> list[Verdict]:
    """The verdicts of a CSV: slide_id, x, y, verdict, and where it has them note and reviewer.

    x, y: level-0 px, anywhere in the patch. reviewer: where the file names none. Raises HistolakeError naming the
    line that cannot be read.
    """
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HistolakeError(f"{path}: cannot be read as CSV: {error}") from None
    missing = [name for name in ("slide_id", "x", "y", "verdict") if name not in frame.columns]
    if missing:
        raise HistolakeError(f"{path}: lacks the column {missing[0]}; the first line must be slide_id,x,y,verdict,…")
    return [_verdict(f"{path}, line {number}", row, reviewer) for number, row in enumerate(frame.to_dicts(), start=2)]


def _verdict(where: str, row: dict[str, str | None], reviewer: str | None) -> Verdict:
    text = {name: (value or "").strip() for name, value in row.items()}
    try:
        place = Place(text["slide_id"], float(text["x"]), float(text["y"]))
    except ValueError:
        raise HistolakeError(f"{where}: x and y must be numbers, level-0 px, not {row['x']}, {row['y']}") from None
    by = text.get("reviewer") or reviewer or this_user()
    return Verdict(place, text["verdict"], text.get("note") or None, by)


def this_user() -> str:
    """The name of who is at the machine. Raises HistolakeError where the system does not tell."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # which of them differs between versions of Python
        raise HistolakeError("who is reviewing? the system does not tell; say --reviewer NAME") from None
