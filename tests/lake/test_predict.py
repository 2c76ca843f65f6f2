"""SQL's predict: linear models by SQL itself, others by Python, from what the lake holds."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from duckdb.func import FunctionNullHandling, PythonUDFType
from support import TestLake, run

from lake import models, session, store
from udfs.errors import ModelError
from udfs.predict import predict_udf


def types(lake: TestLake) -> list[str]:
    """The parameters of the Python function behind predict in the lake."""
    with session.connect(lake.root) as con:
        [(found,)] = con.execute(
            "select parameter_types from duckdb_functions() where function_name = 'predict_udf'"
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
    np.testing.assert_allclose(*scored(full_lake), atol=1e-5)
    longer = {**full_lake.read("models").to_dicts()[0], "model_id": "longer", "dims": dims + 1}
    store.put(full_lake.root, "models", [longer], "test")
    assert types(full_lake) == ["VARCHAR", "FLOAT[]"]
    np.testing.assert_allclose(*scored(full_lake), atol=1e-5)


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


def variants(lake: TestLake) -> dict[str, Any]:
    """The champion's row, and the same model under other names: summed in 64 bits, and by Python."""
    row = models.find(lake.root)
    python = dict.fromkeys(("slopes", "intercept", "sum_bits"))
    [file] = lake.read("model_files").to_dicts()
    for name, how in {"short": {"sum_bits": 32}, "long": {"sum_bits": 64}, "python": python}.items():
        store.put(lake.root, "models", [{**row, **how, "model_id": name}], "test")
        store.put(lake.root, "model_files", [{**file, "model_id": name}], "test")
    return row


def counted(con: duckdb.DuckDBPyConnection, seen: list[int]) -> None:
    """A function counted(embedding) with side effects, like embed, that counts the rows that it is called with."""

    def count(embedding: pa.ChunkedArray) -> pa.Array:
        seen.append(len(embedding))
        return embedding.combine_chunks()

    con.create_function(
        "counted",
        count,
        [duckdb.type("FLOAT[]")],
        duckdb.type("FLOAT[]"),
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
        side_effects=True,
    )


@pytest.mark.parametrize(
    "model", ["'short'", "'long'", "'python'", "model_id", "(select model_id from models where model_id = 'long')"]
)
def test_an_embedding_is_made_once_whatever_the_model(full_lake: TestLake, model: str) -> None:
    variants(full_lake)
    with session.connect(full_lake.root) as con:
        con.execute(
            "create table asked as select unnest(['short', 'long', 'python']) as model_id, slide_id from slides"
        )
        seen: list[int] = []
        counted(con, seen)
        source = "from features inner join asked using (slide_id) where embedding is not null"
        found = con.execute(f"select x, y, slide_id, predict({model}, counted(embedding)) as p {source}").pl()
        assert sum(seen) == len(found) > 0
        wanted = con.execute(f"select predict_udf('python', embedding) as p {source}").pl()
        np.testing.assert_allclose(np.sort(found["p"]), np.sort(wanted["p"]), atol=1e-5)
        seen.clear()
        scores = f"select predict({model}, counted(embedding)) as p {source}"
        kept = con.execute(f"select p from ({scores}) where p > 0.5").fetchall()
        assert sum(seen) == len(found)
        assert len(kept) == (wanted["p"] > 0.5).sum()


@pytest.mark.parametrize("model", ["short", "long", "python"])
def test_what_is_null_gives_null_and_what_is_wrong_says_so(full_lake: TestLake, model: str) -> None:
    dims = variants(full_lake)["dims"]
    with session.connect(full_lake.root) as con:

        def predicted(embedding: list[str] | None, model: str | None = model) -> float | None:
            [(found,)] = con.execute("select predict($m, $e::float[])", {"m": model, "e": embedding}).fetchall()
            return found

        usual = ["0.5"] * dims
        assert predicted(None) is None
        assert predicted(usual, None) is None
        assert 0 < (predicted(usual) or 0) < 1
        for odd in ("nan", "inf"):
            with pytest.raises(duckdb.Error, match=r"NaN or infinity|contains NaN|contains infinity"):
                predicted([*usual[1:], odd])
        with pytest.raises(duckdb.Error, match=f"{dims + 1}"):
            predicted([*usual, "0"])
        with pytest.raises(duckdb.Error, match="no model 'nobody'"):
            predicted(usual, "nobody")


def test_a_view_of_the_lake_may_predict(full_lake: TestLake) -> None:
    folder = full_lake.root / "sql" / "views"
    folder.mkdir(parents=True)
    text = "-- scores: all.\n\nselect predict(m.model_id, f.embedding) as p from features as f cross join models as m"
    (folder / "scores.sql").write_text(text, encoding="utf-8")
    with session.connect(full_lake.root) as con:
        assert len(con.table("scores").pl().drop_nulls()) > 0
    with session.connect(full_lake.root, udfs=()) as con:
        assert ("scores",) not in con.execute("show tables").fetchall()


SCORING = """
import sys
from pathlib import Path
from lake import workflow
_, [done] = workflow.predict(Path(sys.argv[1]), model="short", run_id="test")
assert done.rows > 0 and not done.failures, done
print(*sorted({"mlflow", "scipy", "skops", "sklearn"} & set(sys.modules)))
"""


def test_a_linear_model_scores_without_scikit_learn_and_without_the_folder_of_mlflow(full_lake: TestLake) -> None:
    shutil.rmtree(full_lake.root / "mlflow")
    variants(full_lake)
    words = [sys.executable, "-c", SCORING, str(full_lake.root)]
    done = run(words, check=True)
    assert done.stdout.split() == []
    rows = full_lake.read("predictions").filter(pl.col("model_id") == "short")
    found = rows["probability"].sort().to_numpy()
    np.testing.assert_allclose(found, np.sort(scored(full_lake)[1]), atol=1e-5)


def test_another_model_is_loaded_from_the_lake_and_refused_when_its_file_was_changed(full_lake: TestLake) -> None:
    shutil.rmtree(full_lake.root / "mlflow")
    variants(full_lake)
    assert full_lake.ok("predict", "--model", "python", "--slide", "tumor_1").status == 0
    [file] = [row for row in full_lake.read("model_files").to_dicts() if row["model_id"] == "python"]
    store.put(full_lake.root, "model_files", [{**file, "content": file["content"] + b" "}], "test")
    refused = full_lake("predict", "--model", "python")
    assert refused.status == 1
    assert "model python: its file in the table model_files of" in refused.err
    assert "is not what was written" in refused.err


@pytest.mark.parametrize("model", ["short", "python"])
def test_features_of_another_length_end_the_command_with_a_sentence(full_lake: TestLake, model: str) -> None:
    row: Mapping[str, Any] = variants(full_lake)
    short = full_lake.read("models").to_dicts()
    longer = {**next(each for each in short if each["model_id"] == model), "dims": row["dims"] + 1}
    if longer["slopes"]:
        longer["slopes"] = [*longer["slopes"], 0.0]
    store.put(full_lake.root, "models", [longer], "test")
    refused = full_lake("predict", "--model", model)
    assert refused.status == 1
    assert f"takes embeddings of {row['dims'] + 1} numbers, these have {row['dims']}" in refused.err
