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

MICROSOFT = "com.microsoft"  # the domain of operators that ONNX Runtime has beside the standard
_OPSETS = {"": 17, MICROSOFT: 1}
IR_VERSION = 8  # the oldest that holds these opsets, so that older runtimes read the file
VALID: Pads = (0, 0, 0, 0)
_BEFORE = -(2**31)  # where a slice that runs backwards ends, to have the first element too


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

    @property
    def number(self) -> int:
        """Of the next node; tells names of constants apart."""
        return len(self._nodes)

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A node with one output; `domain` among the attributes names operators that are ONNX Runtime's own."""
        from onnx import helper

        output = f"{kind.lower()}_{self.number}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: Weights | NDArray[np.integer] | np.float32 | np.uint8) -> str:
        """A constant; one that was given the same name before is taken for it."""
        return self._hold(name, np.ascontiguousarray(value))

    def scalar(self, name: str, value: np.float32 | np.uint8) -> str:
        """A constant without dimensions, which some operators insist on; `constant` gives one of length 1."""
        return self._hold(name, np.asarray(value))

    def _hold(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if all(held.name != name for held in self._initializers):
            self._initializers.append(numpy_helper.from_array(value, name))
        return name

    def pixels(self) -> str:
        """The input: bytes (n, h, w, 3) made floats (n, 3, h, w), 0 to 255."""
        floats = self.node("Cast", ["pixels"], to=1)
        return self.node("Transpose", [floats], perm=[0, 3, 1, 2])

    def normalise(self, x: str, mean: float, std: float) -> str:
        """(x - mean) / std."""
        centred = self.node("Sub", [x, self.constant("mean", np.float32(mean))])
        return self.node("Div", [centred, self.constant("std", np.float32(std))])

    def convolve(self, x: str, kernel: Weights, bias: Weights, stride: int, pads: Pads, groups: int = 1) -> str:
        """A convolution; kernel (out, in / groups, h, w), bias (out)."""
        weights = [self.constant(f"kernel_{self.number}", kernel), self.constant(f"bias_{self.number}", bias)]
        return self.node("Conv", [x, *weights], strides=[stride, stride], pads=pads, group=groups)

    def relu(self, x: str) -> str:
        """The larger of x and 0."""
        return self.node("Relu", [x])

    def relu6(self, x: str) -> str:
        """Clip `x` to 0 .. 6."""
        limits = [self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))]
        return self.node("Clip", [x, *limits])

    def add(self, a: str, b: str) -> str:
        """The sum of two tensors."""
        return self.node("Add", [a, b])

    def concatenate(self, branches: list[str]) -> str:
        """Branches side by side, along the channels."""
        return self.node("Concat", branches, axis=1)

    def max_pool(self, x: str, edge: int, stride: int) -> str:
        """Maxima of squares, without padding."""
        return self.node("MaxPool", [x], kernel_shape=[edge, edge], strides=[stride, stride])

    def average_pool(self, x: str, edge: int) -> str:
        """Means around each position; what lies outside the image is not counted."""
        return self.node("AveragePool", [x], kernel_shape=[edge, edge], pads=same_pads((edge, edge)))

    def mean(self, x: str) -> str:
        """The mean over all positions, (n, channels, 1, 1)."""
        return self.node("GlobalAveragePool", [x])

    def deviation(self, x: str) -> str:
        """The standard deviation over all positions, (n, channels, 1, 1); in two passes, so that little is lost."""
        apart = self.node("Sub", [x, self.mean(x)])
        return self.node("Sqrt", [self.mean(self.node("Mul", [apart, apart]))])

    def flip(self, x: str, axes: tuple[int, ...]) -> str:
        """Images (n, channels, h, w) with the order along `axes` reversed: 2 is upside down, 3 mirrored."""
        name = "_".join(map(str, axes))
        bounds = {"first": [-1] * len(axes), "end": [_BEFORE] * len(axes), "axes": axes, "step": [-1] * len(axes)}
        names = [self.constant(f"flip_{name}_{key}", np.array(value, np.int64)) for key, value in bounds.items()]
        return self.node("Slice", [x, *names])

    def even_stain(self, x: str, densities: tuple[float, float, float], faintest: float) -> str:
        """Images (n, 3, h, w), 0 to 255, whose channels are made as dense, on average, as `densities` says.

        Optical density is -ln(value / 255); a stronger stain multiplies it (Beer and Lambert's law). Channels
        fainter than `faintest` count as that faint: glass is not stained.
        """
        white = self.constant("white", np.float32(255))
        bright = self.node("Max", [x, self.constant("black", np.float32(1))])
        logarithm = self.node("Log", [self.node("Div", [bright, white])])
        found = self.node("Min", [self.mean(logarithm), self.constant("faintest", np.float32(-faintest))])
        wanted = self.constant("densities", -np.array(densities, np.float32).reshape(1, 3, 1, 1))
        evened = self.node("Mul", [logarithm, self.node("Div", [wanted, found])])
        return self.node("Mul", [self.node("Exp", [evened]), white])

    def stack(self, views: list[str]) -> str:
        """Views of the same n images as one batch: all of the first view, then all of the second, and so on."""
        return self.node("Concat", views, axis=0)

    def average_views(self, x: str, views: int, dims: int) -> str:
        """The average over stacked views: features (views * n, dims) made (n, dims)."""
        shape = self.constant("views", np.array([views, -1, dims], np.int64))
        return self.node("ReduceMean", [self.node("Reshape", [x, shape])], axes=[0], keepdims=0)

    def flatten(self, x: str) -> str:
        """One row an image."""
        return self.node("Flatten", [x])

    def save(self, x: str, target: Path, name: str, input_px: int, dims: int) -> None:
        """Call `x` (n, dims), the tensor that was added last, `features`, and write the graph to `target`."""
        from onnx import TensorProto, checker, helper

        self._nodes[-1].output[0] = "features"
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", input_px, input_px, 3])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", dims])],
            self._initializers,
        )
        opsets = [helper.make_opsetid(domain, _OPSETS[domain]) for domain in sorted({n.domain for n in self._nodes})]
        model = helper.make_model(graph, producer_name="histolake", opset_imports=opsets, ir_version=IR_VERSION)
        checker.check_model(model, full_check=True)
        target.write_bytes(model.SerializeToString(deterministic=True))
