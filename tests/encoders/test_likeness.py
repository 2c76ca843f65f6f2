"""The check of encoders in fewer bits, and the crops that it is made on."""

import numpy as np
import pytest

from udfs.encoders import int8_graph, likeness
from udfs.encoders.onnx_graph import GraphWriter
from udfs.errors import EncoderError

EDGE = 16


def write(path, limit=None):
    """An encoder that averages squares of 2 px; limit: in bytes that reach so far."""
    graph = GraphWriter()
    x = graph.max_pool(graph.pixels(), 2, 2)
    if limit is not None:
        kind = int8_graph.rectified(graph, limit)
        x = int8_graph.dequantise(graph, int8_graph.average_pool(graph, int8_graph.quantise(graph, x, kind), 3, kind))
    else:
        x = graph.average_pool(x, 3)
    graph.save(graph.flatten(x), path, "averages", EDGE, 3 * (EDGE // 2) ** 2)
    return path


def test_features_in_bytes_that_reach_far_enough_pass(tmp_path):
    exact, rounded = write(tmp_path / "exact.onnx"), write(tmp_path / "rounded.onnx", 255.0)
    assert 0.9999 < likeness.check("it_int8", rounded, exact) < 1


def test_features_that_are_cut_off_are_refused_with_their_cosine_and_a_remedy(tmp_path):
    exact, rounded = write(tmp_path / "exact.onnx"), write(tmp_path / "rounded.onnx", 100.0)
    with pytest.raises(EncoderError, match=r"it_int8: .* \(mean cosine 0\.9\d{3}, at least 0\.999 .*\); use it$"):
        likeness.check("it_int8", rounded, exact)


def test_crops_are_the_same_every_time_yet_each_another():
    crops = likeness.draw_tissue(4, 64)
    np.testing.assert_array_equal(crops, likeness.draw_tissue(4, 64))
    assert crops.shape == (4, 64, 64, 3)
    assert len(np.unique(crops.reshape(4, -1), axis=0)) == 4


def test_crops_have_the_colours_of_stained_tissue_and_structure_of_all_sizes():
    crops = likeness.draw_tissue(8, 64).astype(float)
    red, green, blue = crops.mean(axis=(0, 1, 2))
    assert green < min(red, blue)  # pink and violet
    assert 60 < crops.mean() < 220
    coarse = crops.reshape(8, 8, 8, 8, 8, 3).mean(axis=(2, 4))
    assert coarse.std(axis=(1, 2)).mean() > 5
    assert (crops - np.kron(coarse, np.ones((1, 8, 8, 1)))).std() > 5
