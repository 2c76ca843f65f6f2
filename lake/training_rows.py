"""Reads labelled embeddings for training: the whole training set, or a shard of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lake.selection import Labelled, TrainingSet
from lake.sql_files import query
from udfs.errors import ModelError

if TYPE_CHECKING:
    from lake.recipe import Recipe


@dataclass(frozen=True)
class Shard:
    """The slides from `first` to `last`, both with, in the order of their ids."""

    first: str
    last: str


def shards(con: duckdb.DuckDBPyConnection, recipe: Recipe, most: int) -> list[Shard]:
    """The training set cut between slides into at most so many shards, as equal in patches as slides allow."""
    found = con.execute(query("training_slides"), recipe.selection).fetchall()
    patches = np.array([count for _, count in found], np.int64)
    slides = np.array([slide_id for slide_id, _ in found])
    middles = np.cumsum(patches) - patches / 2
    numbers = np.zeros(len(slides), np.int64)
    while len(slides):
        numbers = (middles * most // patches.sum()).astype(np.int64)
        if (occurring := len(np.unique(numbers))) == most:
            break
        most = occurring  # so that as many shards as came out are cut the same when they are asked for
    return [Shard(str(each[0]), str(each[-1])) for each in (slides[numbers == n] for n in np.unique(numbers))]


def training_set(con: duckdb.DuckDBPyConnection, recipe: Recipe, shard: Shard | None = None) -> TrainingSet:
    """The rows of sql/training_set.sql: all, or those of a shard."""
    which = {"first": shard and shard.first, "last": shard and shard.last}
    rows = con.execute(query("training_set"), {**recipe.selection, **which}).to_arrow_table()
    return TrainingSet(
        _embeddings(con, rows, recipe),
        rows["label"].to_numpy().astype(np.int64),
        rows["slide_id"].to_numpy().astype(str),
        rows["split"].to_numpy() == "validation",
    )


Reader = Callable[[duckdb.DuckDBPyConnection, Path, "Recipe"], Labelled | None]
"""Reads the training set of a recipe as the connection sees it, of the lake at a path; None where it has no row."""


def whole(con: duckdb.DuckDBPyConnection, root: Path, recipe: Recipe) -> TrainingSet:
    """A `Reader`: the whole training set, into this process."""
    return training_set(con, recipe)


def useful(data: Labelled | None, recipe: Recipe) -> Labelled:
    """The set, if it can be learned from.

    Raises ModelError when no row of the training split is there, or only one class is.
    """
    described = f"patch_set {recipe.patch_set}, encoder_id {recipe.encoder_id}, label_rule {recipe.label_rule}"
    in_training = np.empty(0, np.int64) if data is None else data.y[~data.is_validation]
    if data is None or not len(in_training):
        raise ModelError(
            f"no labelled patch of a training slide has features ({described}); "
            "ingest annotations, or give slides the split 'train', then `histolake run`"
        )
    if len(np.unique(in_training)) < 2:
        only = "tumor" if in_training[0] else "normal"
        raise ModelError(
            f"all {len(in_training)} labelled training patches are {only} ({described}); "
            "ingest slides or annotations with the other class into the training split"
        )
    return data


def _embeddings(con: duckdb.DuckDBPyConnection, rows: pa.Table, recipe: Recipe) -> NDArray[np.float32]:
    """The embeddings (n, dims) of the training set's rows, put into place as they are read: they are held once."""
    con.register("chosen_patches", rows.select(["slide_id", "x", "y", "position"]))
    which = {"patch_set": recipe.patch_set, "encoder_id": recipe.encoder_id}
    found = np.empty((len(rows), 0), np.float32)
    for batch in con.execute(query("training_embeddings"), which).to_arrow_reader(2048):
        if not found.size:
            found = np.empty((len(rows), len(batch["embedding"][0])), np.float32)
        if pc.unique(pc.list_value_length(batch["embedding"])).to_pylist() != [found.shape[1]]:
            raise ModelError("embeddings of one encoder differ in length; `histolake check` names the rows")
        found[batch["position"]] = batch["embedding"].flatten().to_numpy().reshape(len(batch), -1)
    con.unregister("chosen_patches")
    return found
