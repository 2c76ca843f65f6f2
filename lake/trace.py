"""Where a prediction comes from: everything behind it, and the runs that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from lake import models, session, store
from lake.places import Place, patches_at
from lake.recipe import recipe_of
from lake.sql_files import query
from udfs.errors import HistolakeError, LakeError


def explain(
    root: Path, slide_id: str, x: float, y: float, *, model: str | None = None, patch_set: str | None = None
) -> dict[str, Any]:
    """All that the prediction at a place follows from, see sql/trace/lineage.sql and ledger.sql.

    x, y: level-0 px, anywhere in a patch. model: as for `models.find`.
    Beside the columns of lineage: `training_set`, with table versions and counts; `ledger`, the entries of
    each stage. Raises HistolakeError where there is no patch or no prediction of it.
    """
    row = models.find(root, model)
    with session.connect(root, udfs=()) as con:
        [patch] = patches_at(con, [Place(slide_id, x, y)], row, patch_set)
        where = {name: patch[name] for name in ("slide_id", "patch_set", "x", "y")}
        found = con.execute(query("trace/lineage"), {**where, "model_id": row["model_id"]}).pl().to_dicts()
        if not found:
            raise _unscored(con, where, row)
        [lineage] = found
        keys = {"part": patch["part"], **{name: row[name] for name in ("model_id", "encoder_id", "label_rule")}}
        keys |= {name: where[name] for name in ("slide_id", "patch_set")}
        keys["annotation_hash"] = lineage["label"]["annotation_hash"]
        entries = con.execute(query("trace/ledger"), keys).pl().to_dicts()
    ledger: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        parsed = {name: json.loads(entry[name]) for name in ("identity", "parameters", "input_versions")}
        ledger.setdefault(entry.pop("stage"), []).append({**entry, **parsed})
    return {**lineage, "training_set": training_set(root, row), "ledger": ledger}


def training_set(root: Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was trained on: `versions` of the tables, and per split the counts of training_counts.sql.

    `splits` is None, and `gone` says why, where the lake no longer has these versions.
    """
    versions = json.loads(model["table_versions"])
    told: dict[str, Any] = {"versions": versions, "splits": None, "gone": None}
    try:
        with session.connect(root, udfs=(), at=store.moment(root, versions)) as con:
            told["splits"] = con.execute(query("trace/training_counts"), recipe_of(model).selection).pl().to_dicts()
    except (LakeError, duckdb.IOException) as error:
        told["gone"] = str(error)
    return told


def _unscored(con: duckdb.DuckDBPyConnection, where: Mapping[str, Any], model: Mapping[str, Any]) -> HistolakeError:
    place = f"slide {where['slide_id']}: the patch at {where['x']}, {where['y']} of {where['patch_set']}"
    unreadable = con.execute(
        "select error from slide_features where bucket = bucket_of($slide_id) and slide_id = $slide_id "
        "and patch_set = $patch_set and x = $x and y = $y and encoder_id = $encoder_id and error is not null",
        {**where, "encoder_id": model["encoder_id"]},
    ).fetchall()
    if unreadable:
        return HistolakeError(f"{place} has no prediction, because it cannot be read: {unreadable[0][0]}")
    return HistolakeError(f"{place} has no prediction of model {model['model_id']}; `histolake predict` makes it")
