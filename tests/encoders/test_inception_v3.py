"""The conversion of Keras' InceptionV3, against Keras."""

import io
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import h5py
import keras
import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from udfs.encoders import inception_v3
from udfs.encoders.encoder import Encoder, describe
from udfs.errors import EncoderError

torch.set_num_threads(1)  # threads that share busy cores spend most of their time waiting for each other

PCAM = Path(__file__).parents[3] / "shared/data/pcam/valid.parquet"
PARTS = {1: ["kernel:0"], 3: ["beta:0", "moving_mean:0", "moving_variance:0"]}


def write_published_layout(model, path, rng):
    """Random weights as Keras 2 saved them; the layers' numbers are not those of the published file."""
    with h5py.File(path, "w") as file:
        names = []
        for number, layer in enumerate(model.layers, start=1000):
            name = f"{type(layer).__name__.lower()}_{number}"
            parts = PARTS.get(len(layer.weights), [])
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{part}".encode() for part in parts]
            for part, weight in zip(parts, layer.weights, strict=True):
                group[f"{name}/{part}"] = random_weight(part, tuple(weight.shape), rng)
            names.append(name.encode())
        file.attrs["layer_names"] = names


def random_weight(part, shape, rng):
    """Kernels that keep the signal's variance; statistics far from those of a fresh batch norm."""
    if part == "kernel:0":
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:3])))
    if part == "moving_variance:0":
        return rng.uniform(0.5, 2.0, shape).astype(np.float32)
    return rng.normal(0, 0.3, shape).astype(np.float32)


@pytest.fixture(scope="module")
def keras_model(tmp_path_factory):
    """Keras' own network, with the weights that it read from a file of the published layout; and that file."""
    path = tmp_path_factory.mktemp("keras") / "weights.h5"
    model = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(299, 299, 3), pooling="avg")
    write_published_layout(model, path, np.random.default_rng(7))
    model.load_weights(path)
    return model, path


@pytest.fixture(scope="module")
def converted(keras_model, tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx") / "inception_v3.onnx"
    inception_v3.convert(keras_model[1], target)
    return target


@pytest.fixture(scope="module")
def encoder(converted):
    return Encoder(describe("inception_v3", converted, preprocessing={}, precision="fp32", source="test"), converted)


def compare(model, encoder, pixels):
    scaled = keras.applications.inception_v3.preprocess_input(pixels.astype(np.float32))
    with torch.no_grad():
        expected = model(scaled, training=False).numpy()
    found = encoder.embed(pixels)
    assert found.shape == (len(pixels), 2048)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_real_tissue_gets_the_features_that_keras_gives(keras_model, encoder):
    if not PCAM.is_file():
        pytest.skip("needs PatchCamelyon's patches in ../shared/data/pcam")
    jpegs = pq.read_table(PCAM, columns=["jpeg"]).slice(0, 2).column("jpeg").to_pylist()
    patches = [Image.open(io.BytesIO(jpeg)).convert("RGB").resize((299, 299)) for jpeg in jpegs]
    compare(keras_model[0], encoder, np.stack([np.asarray(patch) for patch in patches]))


def test_extreme_pixels_get_the_features_that_keras_gives(keras_model, encoder):
    pixels = np.zeros((2, 299, 299, 3), np.uint8)
    pixels[0, 150:] = 255
    pixels[1] = np.random.default_rng(3).integers(0, 256, (299, 299, 3))
    compare(keras_model[0], encoder, pixels)


def test_the_same_weights_make_the_same_file(keras_model, converted, tmp_path):
    inception_v3.convert(keras_model[1], tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == converted.read_bytes()


def test_the_graph_is_valid_and_takes_bytes(converted):
    model = onnx.load(converted)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization"})


def test_a_file_that_is_no_hdf5_is_refused_by_name(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(EncoderError, match=r"weights\.h5: not Keras' HDF5 weights"):
        inception_v3.convert(path, tmp_path / "out.onnx")


def test_layers_of_another_network_are_refused(keras_model, tmp_path):
    path = tmp_path / "swapped.h5"
    path.write_bytes(keras_model[1].read_bytes())
    with h5py.File(path, "r+") as file:
        names = np.asarray(file.attrs["layer_names"], "S")
        first, second = np.flatnonzero(np.char.startswith(names, b"conv2d_"))[:2]
        names[[first, second]] = names[[second, first]]
        file.attrs["layer_names"] = names
    with pytest.raises(EncoderError, match=r"swapped\.h5: a kernel of \(3, 3, 32, 32\)"):
        inception_v3.convert(path, tmp_path / "out.onnx")


def test_a_file_with_a_layer_too_few_is_refused(keras_model, tmp_path):
    path = tmp_path / "short.h5"
    path.write_bytes(keras_model[1].read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:-12]
    with pytest.raises(EncoderError, match="batch norms instead of 94"):
        inception_v3.convert(path, tmp_path / "out.onnx")
