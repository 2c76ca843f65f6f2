"""Writes convolutional encoders as ONNX: RGB bytes in, pooled features out, the same file every time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

Weights = NDArray[np.float32]
Pads = tuple[int, int, int, int]  # top, left, bottom, right

OPSET = 17
IR_VERSION = 8  # the oldest that holds this opset, so that older runtimes read the file
VALID: Pads = (0, 0, 0, 0)


def same_pads(kernel: tuple[int, int], stride: int = 1, size: int = 1) -> Pads:
    """TensorFlow's SAME padding of a (height, width) kernel over `size` px: the odd one goes bottom and right.

    With stride 1 it does not depend on `size`.
    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    lost = (size - 1) % stride  # pixels after the last whole step need no padding
    high, wide = (max(0, edge - 1 - lost) for edge in kernel)
    return high // 2, wide // 2, high - high // 2, wide - wide // 2


def fold_batch_norm(
    kernel: Weights, gamma: Weights, beta: Weights, mean: Weights, variance: Weights, epsilon: float
) -> tuple[Weights, Weights]:
    """Fold a batch norm into the convolution before it: returns its kernel (out, in, h, w) and bias (out).

    Computed in double precision, so that the fold costs no more than the last rounding.
    """
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    folded = kernel.astype(np.float64) * scale[:, None, None, None]
    bias = beta.astype(np.float64) - mean.astype(np.float64) * scale
    return folded.astype(np.float32), bias.astype(np.float32)


class GraphWriter:
    """Collects the nodes of a graph; every method returns the name of the tensor that it adds."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []

    def pixels(self, mean: float, std: float) -> str:
        """The input: bytes (n, h, w, 3) made (n, 3, h, w) floats, (byte - mean) / std."""
        floats = self._node("Cast", ["pixels"], to=1)
        planes = self._node("Transpose", [floats], perm=[0, 3, 1, 2])
        centred = self._node("Sub", [planes, self._constant("mean", np.float32(mean))])
        return self._node("Div", [centred, self._constant("std", np.float32(std))])

    def convolve(self, x: str, kernel: Weights, bias: Weights, stride: int, pads: Pads, groups: int = 1) -> str:
        """A convolution; kernel (out, in / groups, h, w), bias (out)."""
        number = len(self._nodes)
        weights = [self._constant(f"kernel_{number}", kernel), self._constant(f"bias_{number}", bias)]
        return self._node("Conv", [x, *weights], strides=[stride, stride], pads=pads, group=groups)

    def relu(self, x: str) -> str:
        """The larger of x and 0."""
        return self._node("Relu", [x])

    def relu6(self, x: str) -> str:
        """Clip `x` to 0 .. 6."""
        limits = [self._constant("zero", np.float32(0)), self._constant("six", np.float32(6))]
        return self._node("Clip", [x, *limits])

    def add(self, a: str, b: str) -> str:
        """The sum of two tensors."""
        return self._node("Add", [a, b])

    def concatenate(self, branches: list[str]) -> str:
        """Branches side by side, along the channels."""
        return self._node("Concat", branches, axis=1)

    def max_pool(self, x: str, edge: int, stride: int) -> str:
        """Maxima of squares, without padding."""
        return self._node("MaxPool", [x], kernel_shape=[edge, edge], strides=[stride, stride])

    def average_pool(self, x: str, edge: int) -> str:
        """Means around each position; what lies outside the image is not counted."""
        return self._node("AveragePool", [x], kernel_shape=[edge, edge], pads=same_pads((edge, edge)))

    def save(self, x: str, target: Path, name: str, input_px: int, dims: int) -> None:
        """Pool `x` over all positions, call that `features` (n, dims), and write the graph to `target`."""
        from onnx import TensorProto, checker, helper

        pooled = self._node("GlobalAveragePool", [x])
        self._nodes.append(helper.make_node("Flatten", [pooled], ["features"]))
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", input_px, input_px, 3])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", dims])],
            self._initializers,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, producer_name="histolake", opset_imports=opsets, ir_version=IR_VERSION)
        checker.check_model(model, full_check=True)
        target.write_bytes(model.SerializeToString(deterministic=True))

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        output = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, value: Weights | np.float32) -> str:
        from onnx import numpy_helper

        if all(held.name != name for held in self._initializers):
            self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
