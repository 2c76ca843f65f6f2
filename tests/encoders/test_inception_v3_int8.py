"""InceptionV3 in int8 beside the same network in fp32, and the check that its weights must pass."""

import dataclasses
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("KERAS_BACKEND", "torch")

import h5py
import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from udfs.encoders import catalog, inception_v3, inception_v3_int8, likeness
from udfs.encoders.encoder import Encoder, describe
from udfs.errors import EncoderError

torch.set_num_threads(1)  # threads that share busy cores spend most of their time waiting for each other

EDGE = inception_v3.INPUT_PX


def write_weights(path, crops):
    """A network of random kernels whose batch norms were trained on `crops`; as Keras stores it.

    Sums are mostly above 0: with ReLU in each layer random kernels would make small errors grow from layer to layer.
    """
    keras.utils.set_random_seed(3)
    model = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(EDGE, EDGE, 3))
    rng = np.random.default_rng(3)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0  # what one batch shows is what is kept
        layer.beta.assign(rng.normal(1.5, 0.5, layer.beta.shape))
    with torch.no_grad():
        model(keras.applications.inception_v3.preprocess_input(crops.astype(np.float32)), training=True)
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [each.name.encode() for each in layer.weights]
            for each in layer.weights:
                group[each.name] = each.numpy()


@pytest.fixture(scope="module")
def crops():
    return likeness.draw_tissue(8, EDGE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, crops):
    path = tmp_path_factory.mktemp("weights") / "weights.h5"
    write_weights(path, crops)
    return path


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx") / "int8.onnx"
    inception_v3_int8.convert(weights, target)
    return target


@pytest.fixture(scope="module")
def encoder(file):
    return Encoder(describe("it", file, preprocessing={}, precision="int8", source="test"), file)


@pytest.fixture(scope="module")
def features(encoder, crops):
    return encoder.embed(crops)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Makes a file pass for the published weights, within reach of an empty cache; returns that cache."""

    def put(path):
        (tmp_path / "weights").mkdir()
        content = path.read_bytes()
        (tmp_path / "weights" / inception_v3.WEIGHTS.name).write_bytes(content)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        published = dataclasses.replace(inception_v3.WEIGHTS, size=len(content), md5=digest)
        monkeypatch.setattr(inception_v3_int8, "WEIGHTS", published)
        monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HISTOLAKE_WEIGHTS", str(tmp_path / "weights"))
        return tmp_path / "cache"

    return put


@pytest.mark.slow
def test_the_features_are_all_but_those_of_fp32(weights, features, crops, tmp_path):
    target = tmp_path / "fp32.onnx"
    inception_v3.convert(weights, target)
    exact = Encoder(describe("it", target, preprocessing={}, precision="fp32", source="test"), target).embed(crops)
    cosines = np.sum(features * exact, 1) / np.linalg.norm(features, axis=1) / np.linalg.norm(exact, axis=1)
    assert features.shape == (len(crops), inception_v3_int8.DIMS)
    assert cosines.mean() > 0.999
    assert 0.98 < np.linalg.norm(features) / np.linalg.norm(exact) < 1.02
    apart = exact - exact.mean(axis=0)  # what tells crops from each other is kept, too
    kept = features - features.mean(axis=0)
    assert np.sum(apart * kept) / np.linalg.norm(apart) / np.linalg.norm(kept) > 0.99


@pytest.mark.slow
def test_the_same_weights_make_the_same_valid_file_of_bytes(weights, file, tmp_path):
    inception_v3_int8.convert(weights, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    convolutions = [node.op_type for node in model.graph.node if node.op_type.endswith("Conv")]
    assert convolutions == ["Conv"] * 2 + ["QLinearConv"] * 92


@pytest.mark.slow
def test_features_depend_neither_on_threads_nor_on_company(encoder, features, crops):
    with ThreadPoolExecutor(2) as pool:
        alone = np.concatenate(list(pool.map(encoder.embed, np.split(crops[:4], 4))))
    np.testing.assert_array_equal(alone, features[:4])
    np.testing.assert_array_equal(encoder.embed(crops[::-1]), features[::-1])


@pytest.mark.slow
def test_sums_that_processors_without_vnni_take_are_the_same(file, crops):
    found = []
    for is_careful in ("0", "1"):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", is_careful)
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        found.append(session.run(None, {"pixels": crops[:2]})[0])
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_it_is_built_from_weights_that_pass_the_check(weights, file, publish, crops):
    cache = publish(weights)
    spec, path = catalog.prepare("inception_v3_int8")
    assert path.is_relative_to(cache)
    assert path.read_bytes() == file.read_bytes()
    assert (spec.precision, spec.dims, spec.input_px) == ("int8", 2048, 299)
    assert describe(spec.name, path, preprocessing={}, precision="int8", source=spec.source) == spec


@pytest.mark.slow
def test_weights_that_bytes_cannot_hold_are_refused_with_the_cosine(weights, publish, tmp_path):
    wide = tmp_path / "wide.h5"
    wide.write_bytes(weights.read_bytes())
    with h5py.File(wide, "r+") as file:
        norms = [name for name in file if "normalization" in name]
        for name in norms[10:20]:  # sums of these are eight times as wide as their norms once said
            (variance,) = (key for key in file[name].attrs["weight_names"] if "variance" in key)
            file[name][variance][...] /= 64
    cache = publish(wide)
    with pytest.raises(EncoderError, match=r"mean cosine 0\.\d{4}, at least 0\.999 is wanted\); use inception_v3"):
        catalog.prepare("inception_v3_int8")
    assert [path.suffix for path in (cache / "encoders").iterdir()] == [".lock"]
