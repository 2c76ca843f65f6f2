"""EfficientNet-Lite0 read at all depths: against PyTorch's network and NumPy's pooling, turning and staining."""

import numpy as np
import onnx
import pytest
import torch
from original_lite0 import load_original, photographs
from PIL import Image
from torch.nn import functional

from udfs.encoders import efficientnet_lite0_stages
from udfs.encoders.efficientnet_lite0_stages import DENSITIES, DIMS, FAINTEST, INPUT_PX, View
from udfs.encoders.encoder import Encoder, describe

torch.set_num_threads(1)  # threads that share busy cores spend most of their time waiting for each other

LAST_OF_A_STAGE = {0, 2, 4, 7, 10, 14, 15}  # blocks


@pytest.fixture(scope="module")
def original():
    return load_original()


def built(folder, views=efficientnet_lite0_stages.VIEWS):
    target = folder / "stages.onnx"
    efficientnet_lite0_stages.build(target, views)
    return Encoder(describe("stages", target, preprocessing={}, precision="fp32", source="test"), target)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return built(tmp_path_factory.mktemp("onnx"))


def patches():
    """A cat, a cup of coffee, stained tissue, and white glass: uint8 (4, 160, 160, 3)."""
    smaller = [np.asarray(Image.fromarray(each).resize((INPUT_PX, INPUT_PX))) for each in photographs()]
    return np.stack([*smaller, np.full((INPUT_PX, INPUT_PX, 3), 250, np.uint8)])


def of_one_view(model, pixels):
    """Mean and deviation of the maps after stem and stages, for pixels (n, 160, 160, 3) of 0 to 255."""
    x = (torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() - 127) / 128
    x = functional.relu6(model._bn0(model._conv_stem(x)))
    maps = [x]
    for number, block in enumerate(model._blocks):
        x = block(x)
        if number in LAST_OF_A_STAGE:
            maps.append(x)
    means = [each.mean((2, 3)) for each in maps]
    deviations = [each.std((2, 3), correction=0) for each in maps]
    return torch.cat([*means, *deviations], dim=1).numpy()


def evenly_stained(pixels):
    density = -np.log(np.maximum(pixels, 1) / 255)
    found = np.maximum(density.mean((1, 2), keepdims=True), FAINTEST)
    return 255 * np.exp(-density * np.array(DENSITIES) / found)


def test_the_features_are_those_of_the_four_views_averaged(original, encoder):
    pixels = patches()
    evened = evenly_stained(pixels)
    images = (pixels, pixels[:, ::-1, ::-1], evened[:, :, ::-1], evened[:, ::-1])
    with torch.no_grad():
        views = [of_one_view(original, each) for each in images]
    expected = np.mean(views, axis=0)
    found = encoder.embed(pixels)
    assert found.shape == (4, DIMS)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_a_patch_turned_by_half_a_circle_has_the_same_features(encoder):
    pixels = patches()
    np.testing.assert_allclose(encoder.embed(pixels), encoder.embed(pixels[:, ::-1, ::-1].copy()), atol=1e-3)


def test_a_stronger_stain_changes_nothing_of_an_even_view(tmp_path):
    """To the roundings of bytes, which are what differs."""
    even = built(tmp_path, [View(is_even=True)])
    tissue = patches()[2:3]
    stronger = np.rint(255 * (np.maximum(tissue, 1) / 255) ** np.array([1.2, 0.8, 1.1])).astype(np.uint8)
    before, after, other = even.embed(np.concatenate([tissue, stronger, patches()[:1]]))
    assert np.linalg.norm(after - before) < 0.1 * np.linalg.norm(other - before)


def test_the_file_is_the_same_each_time_and_valid(encoder, tmp_path):
    efficientnet_lite0_stages.build(tmp_path / "again.onnx")
    assert describe("x", tmp_path / "again.onnx", preprocessing={}, precision="fp32", source="t").sha256 == (
        encoder.spec.sha256
    )
    onnx.checker.check_model(onnx.load(tmp_path / "again.onnx"), full_check=True)
