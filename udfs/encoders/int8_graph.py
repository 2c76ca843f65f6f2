"""Convolutions in int8 for an encoder's graph: bytes times 8-bit weights, summed in int32.

A tensor of bytes stands for step * (byte - zero). Weights are rounded without any data: what is known of the numbers
that they will meet is what the batch norms were trained to. ONNX Runtime wants convolutions with channels first and
products of matrices with channels last; it runs both with channels last.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from udfs.encoders.onnx_graph import MICROSOFT, GraphWriter, Pads, Weights

Exact = NDArray[np.float64]

_LARGEST = 127
_LARGEST_BIAS = 2**24  # of int32: the steps of rows of almost nothing are made longer


class Bytes(NamedTuple):
    """Names of a tensor of bytes, its step and its zero; `size` is the step."""

    name: str
    step: str
    zero: str
    size: float


class Rounded(NamedTuple):
    """Rows of weights as integers, and the step of each row."""

    integers: NDArray[np.int8]
    steps: Weights

    def weights(self) -> Exact:
        """The weights that the integers stand for."""
        exact: Exact = self.integers * self.steps.astype(np.float64)[:, None]
        return exact


def round_rows(rows: Exact, bias: Exact | None = None, size: float = 1.0) -> Rounded:
    """Rows (out, in), each in 127 steps to either side; bias: to be counted in these steps times `size`."""
    steps = _steps(rows, bias, size)
    return Rounded(np.rint(rows / steps.astype(np.float64)[:, None]).astype(np.int8), steps)


def round_taps(rows: Exact, bias: Exact, size: float) -> Rounded:
    """As `round_rows`, but each row keeps its sum, to half a step: its taps meet pixels that are much alike.

    For that the taps that were rounded farthest are rounded the other way.
    """
    steps = _steps(rows, bias, size)
    exact = rows / steps.astype(np.float64)[:, None]
    integers = np.rint(exact)
    for row, wanted in zip(integers, exact, strict=True):
        excess = round(math.fsum(row) - math.fsum(wanted))
        sign = math.copysign(1, excess)
        farthest = np.argsort((wanted - row) * sign, kind="stable")[: abs(excess)]
        row[farthest] -= sign
    return Rounded(integers.astype(np.int8), steps)


def _steps(rows: Exact, bias: Exact | None, size: float) -> Weights:
    steps = np.abs(rows).max(axis=1) / _LARGEST
    if bias is not None:
        steps = np.maximum(steps, np.abs(bias) / size / _LARGEST_BIAS)
    found: Weights = steps.astype(np.float32)
    found[found == 0] = 1
    return found


def rectified_mean(mean: float, spread: float, limit: float) -> float:
    """The mean of a normal distribution that is cut off below 0 and above `limit`, as ReLU6 does.

    Source: Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction, 2019, appendix C.
    """
    if spread == 0:
        return min(max(mean, 0.0), limit)
    low, high = -mean / spread, (limit - mean) / spread
    inside = _below(high) - _below(low)
    return mean * inside + spread * (_density(low) - _density(high)) + limit * (1 - _below(high))


def _below(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def channels_last(graph: GraphWriter, x: str) -> str:
    """Maps (n, channels, h, w) made (n, h, w, channels)."""
    return graph.node("Transpose", [x], perm=[0, 2, 3, 1])


def channels_first(graph: GraphWriter, x: str) -> str:
    """Maps (n, h, w, channels) made (n, channels, h, w)."""
    return graph.node("Transpose", [x], perm=[0, 3, 1, 2])


def to_bytes(graph: GraphWriter, x: str, limit: float) -> Bytes:
    """Floats made bytes that reach from -limit to limit."""
    return quantise(graph, x, _bytes(graph, f"step_{graph.number}", 2 * limit / 255, 128))


def relu6(graph: GraphWriter) -> Bytes:
    """Bytes that reach from 0 to 6, yet without a name: what lies outside is cut off."""
    return _bytes(graph, "step_relu6", 6 / 255, 0)


def rectified(graph: GraphWriter, limit: float) -> Bytes:
    """Bytes that reach from 0 to limit, the same ones whenever it is called in a graph."""
    return _scalar_bytes(graph, "rectified", limit / 255, 0)


def signed(graph: GraphWriter, limit: float) -> Bytes:
    """Bytes that reach from -limit to limit, the same ones whenever it is called in a graph."""
    return _scalar_bytes(graph, "signed", 2 * limit / 255, 128)


def quantise(graph: GraphWriter, x: str, out: Bytes) -> Bytes:
    """Floats made bytes like `out`."""
    return out._replace(name=graph.node("QuantizeLinear", [x, out.step, out.zero]))


def dequantise(graph: GraphWriter, x: Bytes) -> str:
    """The floats that bytes stand for."""
    return graph.node("DequantizeLinear", [x.name, x.step, x.zero])


def average_pool(graph: GraphWriter, x: Bytes, edge: int, out: Bytes) -> Bytes:
    """Means around each position, channels first, as bytes like `out`: ONNX Runtime makes one step of these three."""
    return quantise(graph, graph.average_pool(dequantise(graph, x), edge), out)


def convolve(
    graph: GraphWriter,
    x: Bytes,
    shape: tuple[int, ...],
    weights: Rounded,
    bias: Exact,
    stride: int,
    pads: Pads,
    out: Bytes,
) -> Bytes:
    """A convolution, channels first, as bytes like `out`: those from 0 on are its ReLU.

    Kernel (out, in, h, w), where `in` is 1 if each channel is apart.
    """
    whole = np.rint(bias / (weights.steps.astype(np.float64) * x.size)).astype(np.int32)
    bias_name = graph.constant(f"bias_{graph.number}", whole)
    weight_names = _weights(graph, weights.integers.reshape(shape), weights.steps)
    groups = shape[0] if shape[1] == 1 else 1
    inputs = [x.name, x.step, x.zero, *weight_names, out.step, out.zero, bias_name]
    name = graph.node("QLinearConv", inputs, strides=[stride, stride], pads=pads, group=groups)
    return out._replace(name=name)


def multiply(graph: GraphWriter, x: Bytes, weights: Rounded, bias: Weights) -> str:
    """A 1x1 convolution, channels last, whose sums come out as floats."""
    integers, steps, zeros = _weights(graph, weights.integers.T, weights.steps)
    bias_name = graph.constant(f"bias_{graph.number}", bias)
    inputs = [x.name, integers, x.step, steps, x.zero, zeros, bias_name]
    return graph.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT)


def mean(graph: GraphWriter, x: str) -> str:
    """The mean over all positions, channels last: (n, channels)."""
    return graph.node("ReduceMean", [x], axes=[1, 2], keepdims=0)


def _bytes(graph: GraphWriter, step: str, size: float, zero: int) -> Bytes:
    exact = np.float32(size)
    return Bytes("", graph.constant(step, exact), graph.constant(f"zero_{zero}", np.uint8(zero)), float(exact))


def _scalar_bytes(graph: GraphWriter, kind: str, size: float, zero: int) -> Bytes:
    exact = np.float32(size)
    names = graph.scalar(f"step_{kind}", exact), graph.scalar(f"zero_{kind}", np.uint8(zero))
    return Bytes("", *names, float(exact))


def _weights(graph: GraphWriter, integers: NDArray[np.int8], steps: Weights) -> list[str]:
    """The names of integers, steps and zeros."""
    return [
        graph.constant(f"kernel_{graph.number}", integers),
        graph.constant(f"steps_{graph.number}", steps),
        graph.constant(f"zeros_{graph.number}", np.zeros(len(steps), np.int8)),
    ]
