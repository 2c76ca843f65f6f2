"""EfficientNet-Lite0 in int8 where it costs least: the same 1280 features, to a cosine of 0.999, in 0.6 of the time.

The stem and the first four blocks stay in fp32. After them numbers are added up in fp32, from block to block, and
multiplied as bytes: what ReLU6 gives is in 0 to 6 by itself, and what is added up is scaled, channel by channel, by the
spread that the batch norms tell. So nothing is calibrated on images. What was tried is in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from udfs.encoders import efficientnet_lite0, int8_graph
from udfs.encoders.efficientnet_lite0 import DIMS, INPUT_PX, SOURCE, Block, Layer, Network
from udfs.encoders.int8_graph import Bytes, Exact, Rounded, rectified_mean, round_rows, round_taps
from udfs.encoders.onnx_graph import GraphWriter

__all__ = ["DIMS", "INPUT_PX", "SOURCE", "build"]

_BLOCKS_IN_FP32 = 4  # they take the largest maps, where rounding does most harm
_LEAST_VARIANCE = 1e-8  # of channels that are all but constant
_SIX = 6.0  # where ReLU6 cuts off
_REACH = 5.0  # numbers reach so many spreads from 0; farther ones are cut


class _Scaled(NamedTuple):
    """A network with other units for what is added up; spreads: the largest, in these, of what each block gives."""

    blocks: list[Block]
    spreads: list[float]
    head: Layer


def build(target: Path) -> None:
    """Write the encoder to `target`: bytes (n, 224, 224, 3) in, floats (n, 1280) out.

    Raises EncoderError when the package's weights are missing or are not the published ones.
    """
    network = efficientnet_lite0.read_network(INPUT_PX)
    blocks, spreads, head = _scale(network)
    graph = GraphWriter()
    x = efficientnet_lite0.write_stem(graph, graph.pixels(), network)
    for block in blocks[:_BLOCKS_IN_FP32]:
        x = efficientnet_lite0.write_block(graph, x, block)
    x = int8_graph.channels_last(graph, x)
    for block, spread in zip(blocks[_BLOCKS_IN_FP32:], spreads[_BLOCKS_IN_FP32 - 1 :], strict=False):
        x = _write_block(graph, x, block, spread)
    taken = int8_graph.to_bytes(graph, x, _REACH * spreads[-1])
    x = graph.relu6(int8_graph.multiply(graph, taken, round_rows(_rows(head)), head.bias))
    graph.save(int8_graph.mean(graph, x), target, "efficientnet_lite0_int8", INPUT_PX, DIMS)


def _scale(network: Network) -> _Scaled:
    """Measure what is added up within a stage by the spread of each channel at its end; the network stays the same."""
    blocks, spreads, unit = [], [], np.ones(1)
    for stage in network.stages:
        variances = list(accumulate(block.project.spread.astype(np.float64) ** 2 for block in stage))
        end = np.sqrt(np.maximum(variances[-1], _LEAST_VARIANCE))
        for block, variance in zip(stage, variances, strict=True):
            expand = None if block.expand is None else _scaled(block.expand, unit)
            unit = end
            blocks.append(replace(block, expand=expand, project=_scaled(block.project, 1, end)))
            spreads.append(float((np.sqrt(variance) / end).max()))
    return _Scaled(blocks, spreads, _scaled(network.head, unit))


def _scaled(layer: Layer, taken: Exact | int, given: Exact | int = 1) -> Layer:
    """The layer that takes and gives numbers of these units, one for each channel."""
    out = np.reshape(given, (-1, 1, 1, 1))
    kernel = layer.kernel * np.reshape(taken, (1, -1, 1, 1)) / out
    return replace(layer, kernel=kernel.astype(np.float32), bias=(layer.bias / given).astype(np.float32))


def _write_block(graph: GraphWriter, before: str, block: Block, spread: float) -> str:
    """An inverted bottleneck; `before` reaches some `spread`s from 0."""
    taken = int8_graph.to_bytes(graph, before, _REACH * spread)
    x = taken._replace(name=int8_graph.channels_first(graph, taken.name))
    if block.expand is not None:
        x = _convolve(graph, x, block.expand, round_rows)
    x = _convolve(graph, x, block.depthwise, round_taps)
    x = x._replace(name=int8_graph.channels_last(graph, x.name))
    if block.is_residual:
        return graph.add(_project(graph, x, block), before)
    return _project_finely(graph, x, block.project)


def _convolve(graph: GraphWriter, x: Bytes, layer: Layer, rounding: Callable[[Exact, Exact, float], Rounded]) -> Bytes:
    bias = layer.bias.astype(np.float64)
    rounded = rounding(_rows(layer), bias, x.size)
    out = int8_graph.relu6(graph)
    return int8_graph.convolve(graph, x, layer.kernel.shape, rounded, bias, layer.stride, layer.pads, out)


def _project(graph: GraphWriter, x: Bytes, block: Block) -> str:
    """Projected by 8-bit weights; what rounding them does on average is taken off again."""
    rows = _rows(block.project)
    rounded = round_rows(rows)
    before = block.depthwise
    means = [
        rectified_mean(float(mean), float(spread), _SIX)
        for mean, spread in zip(before.mean, before.spread, strict=True)
    ]
    lost = np.sum((rows - rounded.weights()) * means, axis=1)
    return int8_graph.multiply(graph, x, rounded, (block.project.bias + lost).astype(np.float32))


def _project_finely(graph: GraphWriter, x: Bytes, project: Layer) -> str:
    """Projected by weights of 16 bits, as two of 8: nothing that comes before makes up for errors here."""
    rows = _rows(project)
    coarse = round_rows(rows)
    fine = round_rows(rows - coarse.weights())
    most = int8_graph.multiply(graph, x, coarse, project.bias)
    return graph.add(most, int8_graph.multiply(graph, x, fine, np.zeros(len(rows), np.float32)))


def _rows(layer: Layer) -> Exact:
    return layer.kernel.reshape(len(layer.kernel), -1).astype(np.float64)
