"""EfficientNet-Lite0 in int8 beside the same network in fp32, and how its weights are rounded."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lake.synthetic_layout import draw_layout
from lake.synthetic_tissue import paint
from udfs.encoders import efficientnet_lite0, efficientnet_lite0_int8
from udfs.encoders.encoder import Encoder, describe
from udfs.encoders.int8_graph import rectified_mean, round_rows, round_taps
from udfs.errors import EncoderError

EDGE = efficientnet_lite0_int8.INPUT_PX
SHA256 = "8ee429e5b1c1043ff7dc6a81b826cbc9ebf195f3f534c41f16d33580afc8bb8d"

rows = arrays(np.float64, (3, 9), elements=st.floats(-4, 4))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx") / "int8.onnx"
    efficientnet_lite0_int8.build(target)
    return target


@pytest.fixture(scope="module")
def encoder(file):
    return Encoder(describe("lite0", file, preprocessing={}, precision="int8", source="test"), file)


@pytest.fixture(scope="module")
def tissue():
    """Patches from all over a generated slide, glass too: uint8 (24, 224, 224, 3)."""
    rng = np.random.default_rng(7)
    slide = paint(rng, draw_layout(rng, 0))
    tops, lefts = (rng.integers(0, edge - EDGE, 24) for edge in slide.shape[:2])
    return np.stack([slide[top : top + EDGE, left : left + EDGE] for top, left in zip(tops, lefts, strict=True)])


@pytest.fixture(scope="module")
def features(encoder, tissue):
    return encoder.embed(tissue)


def test_the_features_are_all_but_those_of_fp32(features, tissue, tmp_path):
    target = tmp_path / "fp32.onnx"
    efficientnet_lite0.build(target)
    exact = Encoder(describe("lite0", target, preprocessing={}, precision="fp32", source="test"), target).embed(tissue)
    cosines = np.sum(features * exact, 1) / np.linalg.norm(features, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.mean() > 0.999
    assert cosines.min() > 0.99
    assert 0.99 < np.linalg.norm(features) / np.linalg.norm(exact) < 1.01


def test_every_machine_builds_the_same_file(file):
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256


def test_features_depend_neither_on_threads_nor_on_company(encoder, features, tissue):
    with ThreadPoolExecutor(4) as pool:
        alone = np.concatenate(list(pool.map(encoder.embed, np.split(tissue[:12], 12))))
    np.testing.assert_array_equal(alone, features[:12])
    np.testing.assert_array_equal(encoder.embed(tissue[::-1]), features[::-1])


def test_sums_that_processors_without_vnni_take_are_the_same(file, tissue):
    """ONNX Runtime then makes other products of bytes: those of signed ones would be cut off at 16 bits."""
    found = []
    for is_careful in ("0", "1"):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", is_careful)
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        found.append(session.run(None, {"pixels": tissue[:4]})[0])
    np.testing.assert_array_equal(*found)


def test_it_is_refused_as_another_precision(file):
    with pytest.raises(EncoderError, match="declared fp32, but its weights are int8"):
        describe("lite0", file, preprocessing={}, precision="fp32", source="test")


@given(rows)
def test_rows_are_rounded_to_the_nearest_step(weights):
    found = round_rows(weights)
    assert np.abs(found.integers.astype(int)).max() <= 127
    assert (np.abs(found.weights() - weights) <= found.steps[:, None] * 0.501 + 1e-30).all()


@given(rows)
def test_taps_keep_their_sum(weights):
    found = round_taps(weights, np.zeros(3), 1.0)
    lost = np.abs(found.weights().sum(axis=1) - weights.sum(axis=1))
    assert (lost <= found.steps * 0.501 + 1e-30).all()
    assert np.abs(found.integers.astype(int)).max() <= 127
    assert (np.abs(found.weights() - weights) <= found.steps[:, None] * 1.01 + 1e-30).all()


def test_a_bias_far_larger_than_its_row_is_still_counted():
    steps = round_rows(np.full((1, 4), 1e-20), np.array([3.0]), 0.02).steps
    assert abs(3.0 / (float(steps[0]) * 0.02)) < 2**25


@pytest.mark.parametrize("limit", [6.0, 12.0])
@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (-2.0, 0.5), (3.0, 4.0), (7.0, 2.0), (1.0, 0.0), (9.0, 0.0)])
def test_the_mean_after_a_cut_is_that_of_many_draws(mean, spread, limit):
    draws = np.clip(np.random.default_rng(0).normal(mean, spread, 400_000), 0, limit)
    assert rectified_mean(mean, spread, limit) == pytest.approx(draws.mean(), abs=0.02)
