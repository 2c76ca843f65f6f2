"""EfficientNet-Lite0's conversion against PyTorch, and the reader of PyTorch's files."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
from original_lite0 import load_original, photographs

from udfs.encoders import efficientnet_lite0
from udfs.encoders.encoder import Encoder, describe
from udfs.encoders.torch_file import MAGIC, read_tensors
from udfs.errors import EncoderError

torch.set_num_threads(1)  # threads that share busy cores spend most of their time waiting for each other


@pytest.fixture(scope="module")
def original():
    return load_original()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx") / "efficientnet_lite0.onnx"
    efficientnet_lite0.build(target)
    return target


@pytest.fixture(scope="module")
def encoder(converted):
    return Encoder(describe("lite0", converted, preprocessing={}, precision="fp32", source="test"), converted)


def test_the_features_are_those_of_the_original_model(original, encoder):
    pixels = np.concatenate([photographs(), np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)])
    with torch.no_grad():
        expected = original.features(pixels).numpy()
    found = encoder.embed(pixels)
    assert found.shape == (5, 1280)
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_features_still_tell_a_cat_from_a_cup_of_coffee(original, encoder):
    """ImageNet's classes 281 to 285 are domestic cats, 967 is espresso."""
    features = torch.from_numpy(encoder.embed(photographs()[:2]))
    cat, coffee = original._fc(features).argmax(dim=1).tolist()
    assert cat in range(281, 286)
    assert coffee == 967


def test_the_file_is_the_same_each_time_and_valid(converted, tmp_path):
    efficientnet_lite0.build(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == converted.read_bytes()
    onnx.checker.check_model(onnx.load(converted), full_check=True)


def test_tensors_are_read_as_pytorch_reads_them(tmp_path):
    tensors = OrderedDict(
        plain=torch.randn(3, 4), transposed=torch.randn(5, 2).T, counted=torch.arange(7), scalar=torch.tensor(3)
    )
    tensors["part of another"] = tensors["plain"][1:, 2:]
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = read_tensors(tmp_path / "old.pth")
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


class Malicious:
    """A pickle of this runs a command when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_asks_for_more_than_tensors_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"weight": Malicious(marker)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(EncoderError, match=r"evil\.pth: not a file of PyTorch tensors .*system"):
        read_tensors(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"a": 1}), pickle.dumps(MAGIC)])
def test_a_file_of_something_else_is_refused_by_name(content, tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"other\.pth: not a file of PyTorch tensors"):
        read_tensors(path)


def test_a_file_cut_short_is_refused(tmp_path):
    torch.save({"weight": torch.randn(100)}, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-10])
    with pytest.raises(EncoderError, match="ends too early"):
        read_tensors(tmp_path / "cut.pth")


def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path):
    torch.save({"weight": torch.randn(2, 3)}, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "whole.pth").read_bytes()
    shape = b"K\x02K\x03\x86"  # the shape (2, 3) in the pickle
    assert whole.count(shape) == 1
    (tmp_path / "wide.pth").write_bytes(whole.replace(shape, b"K\x63K\x03\x86"))
    with pytest.raises(EncoderError, match=r"wide\.pth"):
        read_tensors(tmp_path / "wide.pth")
