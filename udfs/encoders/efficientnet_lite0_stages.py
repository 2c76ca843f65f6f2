"""EfficientNet-Lite0 read at all depths: 160 px in; mean and deviation of every stage's maps, over four views.

The same weights as `efficientnet_lite0`. What was tried, and what each part brings, is in docs/accuracy.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from udfs.encoders import efficientnet_lite0
from udfs.encoders.onnx_graph import GraphWriter

INPUT_PX = 160
DIMS = 1632  # mean and deviation of the stem's 32 channels and the seven stages' 784
SOURCE = efficientnet_lite0.SOURCE

DENSITIES = (0.45, 0.87, 0.45)  # red, green, blue: mean optical density of PatchCamelyon's training patches
FAINTEST = 0.05  # a channel fainter than this is taken for glass, which has no stain
_MAPS = 8  # after the stem and each stage; the head's are left out


class View(NamedTuple):
    """One way to look at a patch."""

    is_even: bool = False  # its channels made as dense as `DENSITIES`
    flipped: tuple[int, ...] = ()  # axes: 2 is upside down, 3 mirrored, both turned by half a circle


VIEWS = (View(), View(flipped=(2, 3)), View(is_even=True, flipped=(3,)), View(is_even=True, flipped=(2,)))


def build(target: Path, views: Sequence[View] = VIEWS) -> None:
    """Write the encoder to `target`: bytes (n, 160, 160, 3) in, floats (n, 1632) out, averaged over `views`.

    Raises EncoderError when the package's weights are missing or are not the published ones.
    """
    graph = GraphWriter()
    pixels = graph.pixels()
    evened = graph.even_stain(pixels, DENSITIES, FAINTEST) if any(view.is_even for view in views) else pixels
    images = [evened if view.is_even else pixels for view in views]
    stacked = graph.stack(
        [graph.flip(x, view.flipped) if view.flipped else x for x, view in zip(images, views, strict=True)]
    )
    maps = list(islice(efficientnet_lite0.write_network(graph, stacked, INPUT_PX), _MAPS))
    pooled = [graph.mean(x) for x in maps] + [graph.deviation(x) for x in maps]
    features = graph.flatten(graph.concatenate(pooled))
    graph.save(graph.average_views(features, len(views), DIMS), target, "efficientnet_lite0_stages", INPUT_PX, DIMS)
