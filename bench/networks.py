"""The encoders for benchmarks, and the same networks in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import onnx

from udfs.encoders import catalog, inception_v3, inception_v3_int8
from udfs.encoders.encoder import EncoderSpec, describe

if TYPE_CHECKING:
    import torch

    Step = Callable[..., torch.Tensor]


def prepare(name: str, folder: Path, precision: str) -> tuple[EncoderSpec, Path, str]:
    """Spec and file of a built-in encoder, and what its weights are: random where the published ones are out of reach.

    Random weights take the same time.
    """
    if catalog.available(name):
        (_, file), weights = catalog.prepare(name), "published weights"
    else:
        drawn, file, weights = folder / "inception_v3.h5", folder / f"{name}.onnx", "random weights"
        if not file.exists():
            _write_random(drawn)
            converter = inception_v3_int8 if name == "inception_v3_int8" else inception_v3
            converter.convert(drawn, file)
    return describe(name, file, preprocessing={}, precision=precision, source=weights), file, weights


def _write_random(path: Path) -> None:
    """InceptionV3 as Keras stores it; kernels keep the signal's variance."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        names = []
        for number, layer in enumerate(inception_v3._keras_order(inception_v3._network())):
            filters, height, width = layer.kernel
            shape = (height, width, layer.inputs[0].channels, filters)
            kernel = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:3])))
            norm = [rng.normal(0, 0.3, filters), rng.normal(0, 0.3, filters), rng.uniform(0.5, 2, filters)]
            for kind, arrays in (("convolution", [kernel]), ("norm", norm)):
                group = file.create_group(f"{kind}_{number}")
                group.attrs["weight_names"] = [f"{index}".encode() for index in range(len(arrays))]
                for index, array in enumerate(arrays):
                    group[f"{index}"] = array.astype(np.float32)
                names.append(f"{kind}_{number}".encode())
        file.attrs["layer_names"] = names


def in_torch(path: Path) -> torch.nn.Module:
    """The network of a built-in encoder's file: bytes (n, h, w, 3) in, features (n, dims) out; norms are folded in."""
    import torch

    class Network(torch.nn.Module):
        """Runs the graph's nodes in order."""

        def __init__(self) -> None:
            super().__init__()
            graph = onnx.load(path).graph
            self.input, self.output = graph.input[0].name, graph.output[0].name
            self.nodes = [(node.op_type, [*node.input], node.output[0], _attributes(node)) for node in graph.node]
            self.names = {each.name: f"weight_{number}" for number, each in enumerate(graph.initializer)}
            for each in graph.initializer:
                tensor = torch.from_numpy(onnx.numpy_helper.to_array(each).copy())
                if tensor.ndim == 4:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
                self.register_buffer(self.names[each.name], tensor)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            steps, dtype = _steps(), next(self.buffers()).dtype
            tensors = {self.input: pixels.to(dtype)}
            for kind, inputs, output, attributes in self.nodes:
                found = [tensors[name] if name in tensors else getattr(self, self.names[name]) for name in inputs]
                tensors[output] = steps[kind](*found, **attributes)
            return tensors[self.output]

    return Network().eval()


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _steps() -> dict[str, Step]:
    """What the built-ins' graphs consist of. A permuted batch of images (n, h, w, 3) is channels-last already."""
    from torch import Tensor, cat
    from torch.nn import functional

    def convolve(x: Tensor, kernel: Tensor, bias: Tensor, strides: list[int], pads: list[int], group: int) -> Tensor:
        top, left, bottom, right = pads
        if (top, left) == (bottom, right):
            return functional.conv2d(x, kernel, bias, strides, (top, left), groups=group)
        return functional.conv2d(functional.pad(x, (left, right, top, bottom)), kernel, bias, strides, groups=group)

    def average(x: Tensor, kernel_shape: list[int], pads: list[int]) -> Tensor:
        return functional.avg_pool2d(x, kernel_shape, 1, pads[:2], count_include_pad=False)

    return {
        "Cast": lambda x, to: x,
        "Transpose": lambda x, perm: x.permute(*perm),
        "Sub": lambda a, b: a - b,
        "Div": lambda a, b: a / b,
        "Add": lambda a, b: a + b,
        "Conv": convolve,
        "Relu": functional.relu,
        "Clip": lambda x, low, high: functional.relu6(x),
        "MaxPool": lambda x, kernel_shape, strides: functional.max_pool2d(x, kernel_shape, strides),
        "AveragePool": average,
        "Concat": lambda *each, axis: cat(each, axis),
        "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
        "Flatten": lambda x: x.flatten(1),
    }
