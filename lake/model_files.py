"""The files of trained models in the lake itself, so that scoring needs neither MLflow nor its folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lake import mlflow_place, skops_file, storage, store
from lake.network import Network
from udfs.encoders.sessions import runtime_errors, summary
from udfs.errors import ModelError

SKOPS, ONNX = "skops", "onnx"
HEAD_FILE = "head.skops"  # of a model of histolake 0.1, in the folder artifacts/ of MLflow's model
OLDER_FILE = "model.skops"  # where histolake 0.1 put it


@dataclass(frozen=True)
class HeadFile:
    """A classifier as a file. classes: of scikit-learn, which it needs beyond those that skops trusts by itself."""

    format: str
    content: bytes
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's, in the folder artifacts/ of MLflow's model."""
        return f"head.{self.format}"


def file_of(estimator: Any) -> HeadFile:
    """A fitted classifier as a file. Raises ModelError when it holds anything that is not scikit-learn's own."""
    if isinstance(estimator, Network):
        return HeadFile(ONNX, estimator.content)
    content, classes = skops_file.dumps(estimator)
    return HeadFile(SKOPS, content, tuple(classes))


def loaded(file: HeadFile, name: str) -> Any:
    """The classifier in the file. name: what it belongs to, for messages.

    Raises ModelError as `skops_file.loads`, and for an ONNX file that is no network of embeddings.
    """
    if file.format != ONNX:
        return skops_file.loads(file.content, name)
    network = Network(file.content)
    damages: tuple[type[Exception], ...] = (*runtime_errors(), IndexError, TypeError, ValueError)
    try:
        network.dims  # noqa: B018 (it opens the file)
    except damages as error:
        raise ModelError(f"{name}: not a network that ONNX Runtime opens: {summary(error)}; train again") from error
    return network


def write(root: Path, model_id: str, file: HeadFile, run_id: str) -> None:
    """Keep the model's file."""
    digest = hashlib.sha256(file.content).hexdigest()
    row = {"model_id": model_id, "format": file.format, "content": file.content, "sha256": digest}
    store.put(root, "model_files", [row], run_id)


def read(root: Path, model_id: str) -> Any:
    """The classifier of that model_id: a network, or scikit-learn's, of which only its own classes are built.

    Raises ModelError when the lake has no file of it, the file is not what was written, or holds anything else.
    """
    rows = storage.scan(store.open_table(root, "model_files")).filter(pl.col("model_id") == model_id).collect()
    if rows.is_empty():
        raise ModelError(f"model {model_id}: the table model_files of {root} has no file of it; train again")
    kept = rows.row(0, named=True)
    found = hashlib.sha256(kept["content"]).hexdigest()
    if found != kept["sha256"]:
        raise ModelError(
            f"model {model_id}: its file in the table model_files of {root} is not what was written (sha256 "
            f"{found[:12]}…, not {kept['sha256'][:12]}…) and is not loaded; restore the table, or train again"
        )
    return loaded(HeadFile(kept["format"], kept["content"]), f"model {model_id}")


def adopt(root: Path, run_id: str) -> None:
    """Take the files of an older lake's models from MLflow's folder, and the lines of those that are linear.

    A model whose file is not there, or not readable, stays without; scoring with it says so.
    """
    from lake.linear import LONG, line_of  # with scikit-learn

    kept = store.rows(root, "model_files")["model_id"].to_list()
    for row in store.rows(root, "models").to_dicts():
        names = (f"artifacts/{HEAD_FILE}", OLDER_FILE)
        found = [content for name in names if (content := mlflow_place.read(root, row["artifact"], name)) is not None]
        if row["model_id"] in kept or not found:
            continue
        content = found[0]
        try:
            line = line_of(skops_file.loads(content, f"{root}: {row['artifact']}"))
        except ModelError:
            continue
        write(root, row["model_id"], HeadFile(SKOPS, content), run_id)
        if line is not None:
            store.put(root, "models", [{**row, **line.columns, "sum_bits": LONG}], run_id)
