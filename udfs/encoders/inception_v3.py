"""InceptionV3 with Keras' ImageNet weights, converted from their HDF5: 299 px in, 2048 features out.

Architecture: keras/src/applications/inception_v3.py; paper: https://arxiv.org/abs/1512.00567.
Pixels are scaled to [-1, 1] inside the graph, as Keras' preprocess_input does outside of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from udfs.encoders.onnx_graph import VALID, GraphWriter, Pads, Weights, fold_batch_norm, same_pads
from udfs.encoders.weights import WeightsFile, fetch
from udfs.errors import EncoderError

INPUT_PX = 299
DIMS = 2048
# Address, size and digest as Keras' own source gives them
WEIGHTS = WeightsFile(
    name="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
    url="https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/",
    size=87_910_968,
    md5="bcbd6486424b2319ff4ef7d526e38f63",
)
SOURCE = f"Keras applications, {WEIGHTS.name}"

_MEAN = _STD = 127.5
_EPSILON = 1e-3

Kernel = tuple[int, int, int]  # filters, height, width


@dataclass(frozen=True, eq=False)
class Layer:
    """A node of the network: a convolution with batch norm and ReLU where it has filters, else as `kind` says."""

    kind: str
    inputs: tuple[Layer, ...]
    kernel: Kernel = (0, 3, 3)
    stride: int = 1
    is_padded: bool = True

    @property
    def pads(self) -> Pads:
        """What a convolution adds around its maps."""
        return same_pads(self.kernel[1:]) if self.is_padded else VALID

    @property
    def steps(self) -> int:
        """How many Keras layers it stands for."""
        return 3 if self.kind == "convolution" else 1

    @property
    def channels(self) -> int:
        """How many feature maps come out."""
        if self.kind == "input":
            return 3
        return self.kernel[0] or sum(each.channels for each in self.inputs)


class Convolution(NamedTuple):
    """Weights with the batch norm folded in, and what they gave in training, channel by channel: spreads are 1."""

    kernel: Weights
    bias: Weights
    mean: Weights


class Network(NamedTuple):
    """The last layer, through which all others are found, and the weights of those that are convolutions."""

    output: Layer
    weights: dict[Layer, Convolution]


def build(target: Path) -> None:
    """Write the encoder to `target`: bytes (n, 299, 299, 3) in, floats (n, 2048) out.

    Raises EncoderError when Keras' weights are neither at hand nor within reach.
    """
    convert(fetch(WEIGHTS), target)


def convert(weights: Path, target: Path) -> None:
    """Write the network with the weights of a Keras HDF5 file (no top) to `target`.

    Raises EncoderError naming the file when its layers do not fit the network.
    """
    network = read_network(weights)
    graph = GraphWriter()
    maps = _write(graph, network)
    graph.save(graph.flatten(graph.mean(maps)), target, "inception_v3", INPUT_PX, DIMS)


def read_network(weights: Path) -> Network:
    """The network with the weights of a Keras HDF5 file (no top).

    Keras assigns weights by the order of layers, whatever their names, and so does this.
    Raises EncoderError naming the file when its layers do not fit the network.
    """
    output = _network()
    kernels, norms = _read_hdf5(weights)
    layers = _keras_order(output)
    if not len(kernels) == len(norms) == len(layers):
        found = f"{len(kernels)} convolutions and {len(norms)} batch norms instead of {len(layers)}"
        raise EncoderError(f"{weights}: {found}; use Keras' {WEIGHTS.name}")
    folded = {}
    for layer, kernel, norm in zip(layers, kernels, norms, strict=True):
        filters, height, width = layer.kernel
        expected = (height, width, layer.inputs[0].channels, filters)
        if kernel.shape != expected or any(part.shape != (filters,) for part in norm):
            raise EncoderError(f"{weights}: a kernel of {kernel.shape}, not {expected}; use Keras' {WEIGHTS.name}")
        beta, mean, variance = norm
        planes = kernel.transpose(3, 2, 0, 1)  # Keras: height, width, in, out
        folded[layer] = Convolution(*fold_batch_norm(planes, np.ones_like(beta), beta, mean, variance, _EPSILON), beta)
    return Network(output, folded)


def _read_hdf5(path: Path) -> tuple[list[Weights], list[list[Weights]]]:
    """Kernels (height, width, in, out), and (beta, mean, variance) of batch norms, in the file's order."""
    import h5py

    kernels, norms = [], []
    try:
        with h5py.File(path) as file:
            for layer in _names(file, "layer_names"):
                arrays = [file[layer][name][()] for name in _names(file[layer], "weight_names")]
                if len(arrays) == 1 and arrays[0].ndim == 4:
                    kernels += arrays
                elif len(arrays) == 3:
                    norms.append(arrays)
                elif arrays:
                    raise EncoderError(f"{path}: layer {layer} is no part of InceptionV3; use Keras' {WEIGHTS.name}")
    except (OSError, KeyError) as error:
        raise EncoderError(f"{path}: not Keras' HDF5 weights ({error}); use Keras' {WEIGHTS.name}") from error
    return kernels, norms


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names; Keras cuts one that is too long for HDF5 into name0, name1, ..."""
    attributes = group.attrs
    chunks = [attribute] if attribute in attributes else []
    while f"{attribute}{len(chunks)}" in attributes:
        chunks.append(f"{attribute}{len(chunks)}")
    if not chunks:
        raise KeyError(f"no {attribute}")
    names = [name for chunk in chunks for name in attributes[chunk]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def postorder(output: Layer) -> list[Layer]:
    """Every layer once, after its inputs."""
    seen: dict[Layer, None] = {}

    def visit(layer: Layer) -> None:
        if layer not in seen:
            for each in layer.inputs:
                visit(each)
            seen[layer] = None

    visit(output)
    return list(seen)


def _keras_order(output: Layer) -> list[Layer]:
    """The convolutions in the order of Keras' layers: farthest from the output first, then depth first.

    Source: keras/src/ops/function.py, map_graph.
    """
    layers = postorder(output)
    depths = {output: 0}
    for layer in reversed(layers):
        for each in layer.inputs:
            depths[each] = max(depths.get(each, 0), depths[layer] + layer.steps)
    convolutions = [layer for layer in layers if layer.kind == "convolution"]
    return sorted(convolutions, key=lambda layer: -depths[layer])


def _write(graph: GraphWriter, network: Network) -> str:
    """Add every layer to the graph; returns the output's tensor."""
    tensors: dict[Layer, str] = {}
    for layer in postorder(network.output):
        inputs = [tensors[each] for each in layer.inputs]
        match layer.kind:
            case "input":
                tensors[layer] = write_input(graph)
            case "convolution":
                tensors[layer] = write_convolution(graph, inputs[0], layer, network.weights[layer])
            case "max_pool":
                tensors[layer] = graph.max_pool(inputs[0], 3, 2)
            case "average_pool":
                tensors[layer] = graph.average_pool(inputs[0], 3)
            case _:
                tensors[layer] = graph.concatenate(inputs)
    return tensors[network.output]


def write_input(graph: GraphWriter) -> str:
    """The images as the first convolution takes them."""
    return graph.normalise(graph.pixels(), _MEAN, _STD)


def write_convolution(graph: GraphWriter, x: str, layer: Layer, weights: Convolution) -> str:
    """A convolution with ReLU, in fp32."""
    return graph.relu(graph.convolve(x, weights.kernel, weights.bias, layer.stride, layer.pads))


def _network() -> Layer:
    x = _valid(Layer("input", ()), (32, 3, 3), stride=2)
    x = _chain(_valid(x, (32, 3, 3)), (64, 3, 3))
    x = _valid(Layer("max_pool", (x,)), (80, 1, 1))
    x = Layer("max_pool", (_valid(x, (192, 3, 3)),))
    for pooled in (32, 64, 64):
        x = _mixed_35(x, pooled)
    x = _halve_35(x)
    for width in (128, 160, 160, 192):
        x = _mixed_17(x, width)
    x = _halve_17(x)
    return _mixed_8(_mixed_8(x))


def _chain(x: Layer, *kernels: Kernel) -> Layer:
    for kernel in kernels:
        x = Layer("convolution", (x,), kernel)
    return x


def _valid(x: Layer, kernel: Kernel, stride: int = 1) -> Layer:
    return Layer("convolution", (x,), kernel, stride, is_padded=False)


def _concat(*branches: Layer) -> Layer:
    return Layer("concatenate", branches)


def _average(x: Layer, filters: int) -> Layer:
    return _chain(Layer("average_pool", (x,)), (filters, 1, 1))


def _mixed_35(x: Layer, pooled: int) -> Layer:
    """Mixed 0 to 2, on 35 x 35."""
    return _concat(
        _chain(x, (64, 1, 1)),
        _chain(x, (48, 1, 1), (64, 5, 5)),
        _chain(x, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        _average(x, pooled),
    )


def _halve_35(x: Layer) -> Layer:
    """Mixed 3: 35 x 35 to 17 x 17."""
    return _concat(
        _valid(x, (384, 3, 3), stride=2),
        _valid(_chain(x, (64, 1, 1), (96, 3, 3)), (96, 3, 3), stride=2),
        Layer("max_pool", (x,)),
    )


def _mixed_17(x: Layer, width: int) -> Layer:
    """Mixed 4 to 7, on 17 x 17."""
    row, column = (width, 1, 7), (width, 7, 1)
    return _concat(
        _chain(x, (192, 1, 1)),
        _chain(x, (width, 1, 1), row, (192, 7, 1)),
        _chain(x, (width, 1, 1), column, row, column, (192, 1, 7)),
        _average(x, 192),
    )


def _halve_17(x: Layer) -> Layer:
    """Mixed 8: 17 x 17 to 8 x 8."""
    return _concat(
        _valid(_chain(x, (192, 1, 1)), (320, 3, 3), stride=2),
        _valid(_chain(x, (192, 1, 1), (192, 1, 7), (192, 7, 1)), (192, 3, 3), stride=2),
        Layer("max_pool", (x,)),
    )


def _mixed_8(x: Layer) -> Layer:
    """Mixed 9 and 10, on 8 x 8."""
    single = _chain(x, (384, 1, 1))
    double = _chain(x, (448, 1, 1), (384, 3, 3))
    return _concat(
        _chain(x, (320, 1, 1)),
        _concat(_chain(single, (384, 1, 3)), _chain(single, (384, 3, 1))),
        _concat(_chain(double, (384, 1, 3)), _chain(double, (384, 3, 1))),
        _average(x, 192),
    )
