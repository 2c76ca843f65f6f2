"""InceptionV3, most of it in int8: the same 2048 features, to a cosine of 0.999, in a third of the time.

The first two convolutions stay in fp32. Every batch norm leaves sums with a spread of 1, as training saw them, and 12
spreads reach far enough. So all bytes between layers stand for 0 to 12 in equal steps, and nothing is calibrated on
images. Maps that are averaged before a convolution of 1x1 are averaged after it instead: that is the same, and there
are fewer channels. What was tried is in docs/performance.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from udfs.encoders import inception_v3, int8_graph, likeness
from udfs.encoders.inception_v3 import DIMS, INPUT_PX, SOURCE, WEIGHTS, Convolution, Layer, Network, postorder
from udfs.encoders.int8_graph import Bytes, Exact, rectified_mean, round_rows
from udfs.encoders.onnx_graph import GraphWriter
from udfs.encoders.weights import fetch

__all__ = ["DIMS", "INPUT_PX", "SOURCE", "build", "convert"]

_IN_FP32 = 2  # convolutions at the start
_REACH = 12.0  # numbers reach so many spreads from 0; farther ones are cut


def build(target: Path) -> None:
    """Write the encoder to `target`: bytes (n, 299, 299, 3) in, floats (n, 2048) out.

    Raises EncoderError when Keras' weights are neither at hand nor within reach, or when the features are not
    those of `inception_v3`.
    """
    weights = fetch(WEIGHTS)
    convert(weights, target)
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "exact.onnx"
        inception_v3.convert(weights, exact)
        likeness.check("inception_v3_int8", target, exact)


def convert(weights: Path, target: Path) -> None:
    """Write the network with the weights of a Keras HDF5 file (no top) to `target`, unchecked.

    Raises EncoderError naming the file when its layers do not fit the network.
    """
    graph = GraphWriter()
    maps = _write(graph, inception_v3.read_network(weights))
    features = graph.mean(int8_graph.dequantise(graph, maps))
    graph.save(graph.flatten(features), target, "inception_v3_int8", INPUT_PX, DIMS)


def _write(graph: GraphWriter, network: Network) -> Bytes:
    """Add every layer to the graph; returns what the last one gives."""
    positive, signed = int8_graph.rectified(graph, _REACH), int8_graph.signed(graph, _REACH)
    means = _means(network)
    _, *layers = postorder(network.output)
    stem, rest = layers[:_IN_FP32], layers[_IN_FP32:]
    x = inception_v3.write_input(graph)
    for layer in stem:
        x = inception_v3.write_convolution(graph, x, layer, network.weights[layer])
    found = {stem[-1]: int8_graph.quantise(graph, x, positive)}
    for layer in rest:
        first, weights = layer.inputs[0], network.weights.get(layer)
        if weights is None:
            found[layer] = _pass_on(graph, layer.kind, [found[each] for each in layer.inputs])
        elif first.kind == "average_pool":
            sums = _convolve(graph, found[first], means[first], layer, weights, signed)
            found[layer] = int8_graph.average_pool(graph, sums, 3, positive)
        else:
            found[layer] = _convolve(graph, found[first], means[first], layer, weights, positive)
    return found[network.output]


def _means(network: Network) -> dict[Layer, Exact]:
    """What every layer gives on average, channel by channel, as the batch norms tell it."""
    means: dict[Layer, Exact] = {}
    for layer in postorder(network.output):
        if layer in network.weights:
            means[layer] = np.array([rectified_mean(float(each), 1.0, _REACH) for each in network.weights[layer].mean])
        elif layer.inputs:
            means[layer] = np.concatenate([means[each] for each in layer.inputs])
    return means


def _pass_on(graph: GraphWriter, kind: str, inputs: list[Bytes]) -> Bytes:
    """A layer without weights; averages are left to the convolution that follows."""
    names = [each.name for each in inputs]
    match kind:
        case "max_pool":
            return inputs[0]._replace(name=graph.max_pool(names[0], 3, 2))
        case "average_pool":
            return inputs[0]
        case _:
            return inputs[0]._replace(name=graph.concatenate(names))


def _convolve(graph: GraphWriter, x: Bytes, means: Exact, layer: Layer, weights: Convolution, out: Bytes) -> Bytes:
    """A convolution by 8-bit weights; what rounding them does on average is taken off again."""
    kernel, bias = weights.kernel.astype(np.float64), weights.bias.astype(np.float64)
    rows = kernel.reshape(len(kernel), -1)
    rounded = round_rows(rows, bias, x.size)
    lost = (rows - rounded.weights()).reshape(kernel.shape).sum(axis=(2, 3)) @ means
    return int8_graph.convolve(graph, x, kernel.shape, rounded, bias + lost, layer.stride, layer.pads, out)
