"""A small neural network on embeddings as an ONNX file: written without PyTorch, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]

OPSET = 17
IR_VERSION = 8  # the oldest that holds this opset, so that older runtimes read the file
LAST = "last"  # the layer whose output are the log odds


@dataclass(frozen=True)
class Layer:
    """weights (in, out) and bias (out,): x @ weights + bias."""

    weights: Single
    bias: Single


@dataclass(frozen=True)
class Network:
    """A classifier with classes 0 and 1, with methods named as scikit-learn names them.

    content: the ONNX file: `embeddings` (n, dims) in, `log_odds` (n,) and `probability` (n,) of tumor out. losses: the
    loss as it was fitted, the mean over every hundred steps.
    """

    content: bytes
    losses: tuple[float, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.content, self.losses)  # an open session does not travel

    @cached_property
    def _session(self) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1  # DuckDB's threads, or those over blocks of rows, each call it
        return ort.InferenceSession(self.content, options, ["CPUExecutionProvider"])

    @property
    def dims(self) -> int:
        """Length of the embeddings that it takes."""
        return int(self._session.get_inputs()[0].shape[1])

    def decision_function(self, embeddings: Single) -> NDArray[np.float64]:
        """Log odds of tumor (n,) of embeddings (n, dims). Raises ValueError for what is no number."""
        if not np.isfinite(embeddings).all():
            raise ValueError("an embedding holds NaN or infinity; `histolake run` makes it anew")
        (odds,) = self._session.run(["log_odds"], {"embeddings": np.asarray(embeddings, np.float32)})
        return np.asarray(odds, np.float64)

    def predict_proba(self, embeddings: Single) -> NDArray[np.float64]:
        """Probabilities of normal and of tumor (n, 2) of embeddings (n, dims)."""
        from scipy.special import expit

        odds = self.decision_function(embeddings)
        return np.stack([expit(-odds), expit(odds)], axis=1)

    def moved(self, slope: float, offset: float) -> Network:
        """The network whose log odds are slope * log odds + offset: a calibration."""
        from onnx import load_model_from_string, numpy_helper

        model = load_model_from_string(self.content)
        for held in model.graph.initializer:
            if held.name in (f"{LAST}_weights", f"{LAST}_bias"):
                value = numpy_helper.to_array(held).astype(np.float64) * slope
                value += offset if held.name == f"{LAST}_bias" else 0.0
                held.CopyFrom(numpy_helper.from_array(value.astype(np.float32), held.name))
        return Network(model.SerializeToString(deterministic=True), self.losses)


def network(mean: Single, scale: Single, layers: Sequence[Layer], losses: Sequence[float] = ()) -> Network:
    """Standardise by mean and scale, then the layers, with max(x, 0) between them; the last has one output."""
    from onnx import TensorProto, checker, helper, numpy_helper

    names = [*(f"hidden{number}" for number in range(len(layers) - 1)), LAST]
    held = {"mean": mean, "scale": scale, "column": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Sub", ["embeddings", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["standardised"]),
    ]
    at = "standardised"
    for name, layer in zip(names, layers, strict=True):
        held |= {f"{name}_weights": layer.weights, f"{name}_bias": layer.bias}
        nodes.append(helper.make_node("Gemm", [at, f"{name}_weights", f"{name}_bias"], [name]))
        at = name
        if name != LAST:
            nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"]))
            at = f"{name}_relu"
    nodes.append(helper.make_node("Squeeze", [at, "column"], ["log_odds"]))
    nodes.append(helper.make_node("Sigmoid", ["log_odds"], ["probability"]))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", len(mean)])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("log_odds", "probability")],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in held.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="histolake", opset_imports=opsets, ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return Network(model.SerializeToString(deterministic=True), tuple(losses))
