"""SQL's predict: the same probabilities by array and by list, of whatever length models take."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from support import TestLake

from lake import models, session, store
from udfs.errors import ModelError
from udfs.predict import predict_udf


def types(lake: TestLake) -> list[str]:
    """The parameters that predict has in the lake."""
    with session.connect(lake.root) as con:
        [(found,)] = con.execute(
            "select parameter_types from duckdb_functions() where function_name = 'predict'"
        ).fetchall()
    return list(found)


def scored(lake: TestLake) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of all features by SQL, and by the classifier itself."""
    model_id = models.champion(lake.root)
    with session.connect(lake.root) as con:
        rows = con.execute(
            "select embedding, predict($model, embedding) from slide_features where embedding is not null",
            {"model": model_id},
        ).fetchall()
    estimator = models.load_model(lake.root, str(model_id)).estimator
    wanted = estimator.predict_proba(np.array([embedding for embedding, _ in rows], np.float32))[:, 1]
    return np.array([each for _, each in rows]), wanted


def test_models_of_one_length_take_arrays_and_of_several_lists(full_lake: TestLake) -> None:
    dims = full_lake.read("models")["dims"][0]
    assert types(full_lake) == ["VARCHAR", f"FLOAT[{dims}]"]
    np.testing.assert_allclose(*scored(full_lake), atol=1e-6)
    longer = {**full_lake.read("models").to_dicts()[0], "model_id": "longer", "dims": dims + 1}
    store.put(full_lake.root, "models", [longer], "test")
    assert types(full_lake) == ["VARCHAR", "FLOAT[]"]
    np.testing.assert_allclose(*scored(full_lake), atol=1e-6)


class Sum:
    """A model whose probability is the sum."""

    dims = 2

    def probability(self, embeddings: np.ndarray) -> np.ndarray:
        return embeddings.sum(axis=1).astype(float)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)])
def test_models_and_nulls_may_be_mixed(kind: pa.DataType) -> None:
    predict = predict_udf(lambda name: Sum())
    embeddings = pa.array([[1, 2], None, [3, 4], [5, 6]], kind)
    assert predict.function(pa.array(["a", "a", None, "b"]), embeddings).to_pylist() == [3, None, None, 11]
    assert predict.function(pa.array(["a", "a"]), embeddings[2:]).to_pylist() == [7, 11]
    assert predict.function(pa.array(["a", "b"]), embeddings[2:]).to_pylist() == [7, 11]
    with pytest.raises(ModelError, match="these have 3"):
        predict.function(pa.array(["a"]), pa.array([[1, 2, 3]], pa.list_(pa.float32())))


def test_predictions_are_written_in_tile_order(full_lake: TestLake) -> None:
    full_lake.ok("predict")
    found = full_lake.read("predictions").select("slide_id", "y", "x")
    assert len(found) > 0
    for _, rows in found.group_by("slide_id", maintain_order=True):
        assert rows.equals(rows.sort("y", "x"))


def test_queries_that_take_long_draw_no_progress_bar_into_what_is_printed(full_lake: TestLake) -> None:
    with session.connect(full_lake.root) as con:
        assert con.execute("select current_setting('enable_progress_bar')").fetchall() == [(False,)]
