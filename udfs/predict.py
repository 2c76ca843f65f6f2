"""The SQL function predict: embeddings in, probabilities of tumor out, by the model that SQL names."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from udfs.errors import ModelError
from udfs.registry import Column, Udf


class Model(Protocol):
    """A binary classifier of embeddings."""

    @property
    def dims(self) -> int:
        """Length of the embeddings that it takes."""

    def probability(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of tumor, shape (n,), of embeddings of shape (n, dims)."""


def predict_udf(load: Callable[[str], Model], dims: int | None = None, macro: str = "") -> Udf:
    """The SQL function predict(model_id, embedding), whose models are loaded once, on first call.

    load: returns the model of a model_id, or raises ModelError. dims: the length of all embeddings, where it is one:
    DuckDB casts lists to arrays of a fixed length, which it hands over six times as fast. macro: see `Udf`; it may
    compute some models itself.
    """
    models: dict[str, Model] = {}
    lock = threading.Lock()

    def model_of(model_id: str) -> Model:
        with lock:
            if model_id not in models:
                models[model_id] = load(model_id)
            return models[model_id]

    def predict(model_id: Column, embedding: Column) -> pa.Array:
        """Probability of tumor, 0 to 1, that the model gives each embedding; NULL where that is NULL.

        In a lake SQL computes linear models itself, within 0.00001 of scikit-learn, and calls this as predict_udf for
        others. Raises ModelError when there is no such model, or it takes embeddings of another length.
        """
        result = np.full(len(embedding), np.nan)
        is_known = pc.and_(model_id.is_valid(), embedding.is_valid())
        names = pc.unique(model_id.filter(is_known)).to_pylist()
        if len(names) == 1 and pc.all(is_known).as_py():  # filtering would copy
            return pa.array(_probability(model_of(names[0]), names[0], embedding))
        for name in names:
            chosen = pc.and_(is_known, pc.equal(model_id, name).fill_null(False))
            result[np.flatnonzero(chosen)] = _probability(model_of(name), name, embedding.filter(chosen))
        return pa.array(result, mask=~np.asarray(is_known))

    parameters = (("model_id", "VARCHAR"), ("embedding", f"FLOAT[{dims or ''}]"))
    return Udf("predict", parameters, "DOUBLE", inspect.getdoc(predict) or "", predict, macro)


def _probability(model: Model, model_id: str, embeddings: pa.Array) -> NDArray[np.float64]:
    lengths = pc.unique(pc.list_value_length(embeddings)).to_pylist()
    if lengths != [model.dims]:
        found = ", ".join(map(str, lengths))
        raise ModelError(
            f"model {model_id} takes embeddings of {model.dims} numbers, these have {found}; "
            "score features of the encoder it was trained on"
        )
    return model.probability(embeddings.flatten().to_numpy().reshape(-1, model.dims))
