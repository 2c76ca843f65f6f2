"""embed in DuckDB's SQL, with real sessions."""

import threading

import duckdb
import numpy as np
import onnx
import pyarrow as pa
import pytest

from udfs.embed import embed_udf
from udfs.encoders.encoder import Encoder, describe
from udfs.errors import EncoderError

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (uint8[n,EDGE,EDGE,3] image) => (float[n,dims] features)
{ numbers = Cast<to = 1>(image) planes = Transpose<perm = [0, 3, 1, 2]>(numbers)
  pooled = GlobalAveragePool(planes) means = Flatten(pooled) features = JOINED }"""


class Loader:
    """Loads encoders of channel means: `small` takes 4 px; `large` 6 px, and gives them twice. Notes each load."""

    def __init__(self, folder):
        self.folder = folder
        self.loaded = []
        self.lock = threading.Lock()

    def __call__(self, encoder_id):
        with self.lock:
            self.loaded.append(encoder_id)
        if encoder_id not in ("small", "large"):
            raise EncoderError(f"no encoder {encoder_id} in this lake; add it first")
        path = self.folder / f"{encoder_id}.onnx"
        edge, joined = ("4", "Identity(means)") if encoder_id == "small" else ("6", "Concat<axis = 1>(means, means)")
        text = TEXT.replace("EDGE", edge).replace("JOINED", joined)
        path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
        return Encoder(describe(encoder_id, path, preprocessing={}, precision="fp32", source="test"), path)


@pytest.fixture
def load(tmp_path):
    return Loader(tmp_path)


@pytest.fixture
def con(load):
    con = duckdb.connect(config={"threads": 2})
    embed_udf(load).register(con)
    return con


def patches(count, edge=4):
    return np.random.default_rng(count).integers(0, 256, (count, edge, edge, 3), np.uint8)


def feed(con, blobs, ids=None, rows=64):
    pixels, ids = pa.array(blobs, pa.binary()), ids or ["small"] * len(blobs)
    table = pa.table({"i": range(len(blobs)), "pixels": pixels, "id": ids})
    con.register("patches", pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=rows)))


def embedded(con, what="id"):
    rows = con.execute(f"select i, embed({what}, pixels) from patches").fetchall()
    return [embedding for _, embedding in sorted(rows)]


def test_every_patch_gets_its_own_embedding_from_all_threads(con, load):
    pixels = patches(1000)
    feed(con, [patch.tobytes() for patch in pixels])
    found = embedded(con, "'small'")
    np.testing.assert_allclose(found, pixels.mean(axis=(1, 2)), rtol=1e-5)
    assert load.loaded == ["small"]


def test_null_pixels_have_no_embedding_and_shift_no_other(con):
    pixels = patches(9)
    blobs = [None if index in (0, 4, 5, 8) else patch.tobytes() for index, patch in enumerate(pixels)]
    feed(con, blobs)
    for patch, blob, embedding in zip(pixels, blobs, embedded(con), strict=True):
        if blob is None:
            assert embedding is None
        else:
            np.testing.assert_allclose(embedding, patch.mean(axis=(0, 1)), rtol=1e-5)


def test_a_batch_without_any_pixels_loads_nothing(con, load):
    feed(con, [None, None])
    assert embedded(con) == [None, None]
    assert load.loaded == []


def test_a_row_without_an_encoder_has_no_embedding(con):
    pixels = patches(2)
    feed(con, [patch.tobytes() for patch in pixels], ids=[None, "small"])
    first, second = embedded(con)
    assert first is None
    np.testing.assert_allclose(second, pixels[1].mean(axis=(0, 1)), rtol=1e-5)


def test_two_encoders_in_one_batch_get_their_own_patches(con, load):
    small, large = patches(6), patches(6, edge=6)
    ids = ["small", "large"] * 3
    chosen = [small[index] if name == "small" else large[index] for index, name in enumerate(ids)]
    feed(con, [patch.tobytes() for patch in chosen], ids)
    for name, patch, embedding in zip(ids, chosen, embedded(con), strict=True):
        means = patch.mean(axis=(0, 1))
        np.testing.assert_allclose(embedding, means if name == "small" else [*means, *means], rtol=1e-5)
    assert sorted(load.loaded) == ["large", "small"]


def test_a_patch_of_the_wrong_size_is_an_error_that_says_which_is_right(con):
    feed(con, [bytes(48), bytes(27)])
    reason = r"small-[0-9a-f]{8} takes 4 x 4 px patches of 48 bytes, but pixels have 27"
    with pytest.raises(duckdb.InvalidInputException, match=reason):
        embedded(con)


def test_an_unknown_encoder_is_an_error_with_its_name(con):
    feed(con, [bytes(48)])
    with pytest.raises(duckdb.InvalidInputException, match="no encoder nobody in this lake"):
        embedded(con, "'nobody'")


def test_slices_of_a_column_are_read_at_their_own_place(load):
    """Arrow hands on parts of a column with an offset into its bytes."""
    pixels = patches(10)
    column = pa.array([patch.tobytes() for patch in pixels], pa.binary()).slice(3, 4)
    found = embed_udf(load).function(pa.array(["small"] * 4), column)
    assert found.type == pa.list_(pa.float32())
    np.testing.assert_allclose(found.to_pylist(), pixels[3:7].mean(axis=(1, 2)), rtol=1e-5)


def test_the_function_documents_itself(load):
    udf = embed_udf(load)
    assert udf.signature == "embed(encoder_id VARCHAR, pixels BLOB) -> FLOAT[]"
    assert "NULL where the pixels are" in udf.about
