"""Looks into an ONNX file: what goes in, what comes out, which files belong to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udfs.errors import EncoderError, quoted, shortened

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import GraphProto, ModelProto, ValueInfoProto

MAX_INPUT_PX = 2048
MAX_BATCH = 256  # patches in a slice of a stage's input; a larger run would be mostly padding
MAX_BYTES = 2**31  # of an ONNX file: Protocol Buffers end there
MAX_DIMS = 16_384  # more is an image that was flattened, not an embedding

Dimension = int | str | None  # fixed, named, or left open

_DTYPES = {"FLOAT": "float32", "FLOAT16": "float16", "UINT8": "uint8"}
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class OnnxFile:
    """An encoder's file: one image input of `dtype` in `layout` (nchw or nhwc), one output."""

    path: Path
    sha256: str  # of the file; with external data, of the digests of all its files
    input_name: str
    dtype: str
    layout: str
    batch: Dimension
    height: Dimension
    width: Dimension
    is_quantised: bool
    is_half: bool


def inspect(path: Path) -> OnnxFile:
    """Read the graph of an ONNX file, without its external data.

    Raises EncoderError naming file and remedy when it cannot be an encoder.
    """
    from onnx import NodeProto

    model = _parse(path)
    image = _only_input(path, model.graph)
    dtype, layout, (batch, height, width) = _image_shape(path, image)
    _check_output(path, model.graph)
    operations = {node.op_type for node in _all(NodeProto, model)}
    return OnnxFile(
        path=path,
        sha256=_digest(path, model),
        input_name=image.name,
        dtype=dtype,
        layout=layout,
        batch=batch,
        height=height,
        width=width,
        is_quantised=not operations.isdisjoint(_QUANTISED),
        is_half=any(tensor.data_type in (10, 16) for tensor in model.graph.initializer),  # FLOAT16, BFLOAT16
    )


def _parse(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError, Message

    try:
        if path.exists() and not path.is_file():  # a device or a pipe would be read for ever
            raise EncoderError(f"{path}: not a file; give the path of an ONNX file")
        if path.stat().st_size > MAX_BYTES:
            raise EncoderError(f"{path}: larger than 2 GB, as no ONNX file is; export it with its weights beside it")
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        raise EncoderError(f"{path}: {why}; give the path of an ONNX file") from None
    except DecodeError:
        raise EncoderError(f"{path}: not an ONNX file; export the model with torch.onnx or the like") from None
    if not model.graph.node:
        raise EncoderError(f"{path}: not an ONNX file, or an empty one; export the model with torch.onnx or the like")
    if any(isinstance(name, bytes) for each in _all(Message, model) for name in _texts(each)):
        raise EncoderError(f"{path}: a name in it is not UTF-8 text, so it is damaged; export it again")
    return model


def _texts(message: Message) -> Iterator[str | bytes]:
    """The fields of a message that should be text: of damaged ones Protocol Buffers gives the bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from [value] if isinstance(value, str | bytes) else value


def _only_input(path: Path, graph: GraphProto) -> ValueInfoProto:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(shortened(value.name) for value in inputs[:10]) or "none"
        raise EncoderError(f"{path}: one input is needed, an image, but it has {names}; export the image encoder alone")
    image: ValueInfoProto = inputs[0]
    return image


def _dimensions(value: ValueInfoProto) -> tuple[Dimension, ...] | None:
    """The shape that the file declares; None where it declares none."""
    shape = value.type.tensor_type.shape
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in shape.dim)


def _image_shape(path: Path, image: ValueInfoProto) -> tuple[str, str, tuple[Dimension, Dimension, Dimension]]:
    from onnx import TensorProto

    number, name = image.type.tensor_type.elem_type, shortened(image.name)
    kind = TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else f"of kind {number}"
    if kind not in _DTYPES:
        raise EncoderError(f"{path}: input {name} is {kind}; export it for {', '.join(_DTYPES)}")
    match _dimensions(image):
        case (batch, 3, height, width):
            layout = "nchw"
        case (batch, height, width, 3):
            layout = "nhwc"
        case shape:
            found = "no shape" if shape is None else f"shape {_shown(shape)}"
            raise EncoderError(f"{path}: input {name} has {found}; export it for (n, 3, h, w) or (n, h, w, 3)")
    if isinstance(batch, int) and batch > MAX_BATCH:
        raise EncoderError(f"{path}: it takes {batch:,} images at once, at most {MAX_BATCH}; export it for any batch")
    return _DTYPES[kind], layout, (batch, height, width)


def _check_output(path: Path, graph: GraphProto) -> None:
    """Refuse what is known before any run not to be an embedding."""
    names = [shortened(value.name) for value in graph.output]
    if len(names) != 1:
        has = ", ".join(names[:10]) or "none"
        raise EncoderError(f"{path}: one output is needed, but it has {has}; export the embedding alone")
    shape = _dimensions(graph.output[0])
    if shape is not None:
        check_features(path, shape)


def check_features(path: Path, shape: tuple[Dimension, ...]) -> None:
    """Raise EncoderError unless `shape` can be that of embeddings, or of feature maps to be pooled."""
    if len(shape) not in (2, 4):
        remedy = "export the pooled embedding (n, dims), or feature maps of rank 4"
        raise EncoderError(f"{path}: output of rank {len(shape)}, {_shown(shape)}; {remedy}")
    sizes = [dim for dim in shape[1:] if isinstance(dim, int)] or [1]
    if min(sizes) < 1:
        raise EncoderError(f"{path}: its output {_shown(shape)} holds no numbers; export the embedding")
    largest = max(sizes)
    if largest > MAX_DIMS:
        raise EncoderError(f"{path}: {largest:,} numbers for each image, at most {MAX_DIMS:,}; export it with pooling")


def _shown(shape: tuple[Dimension, ...]) -> str:
    """A shape for a message."""
    return shortened(str(shape[:10]))


def _all(kind: type[Message], message: Message) -> Iterator[Any]:
    """All messages of that kind in one, however deep: in graphs, the graphs and functions in them, sparse tensors."""
    from onnx import TensorProto

    if isinstance(message, kind):
        yield message
    if isinstance(message, TensorProto):  # the largest, with none but numbers in them
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, "__len__") else [value]:
                yield from _all(kind, inner)


def external_data(path: Path) -> list[str]:
    """The files beside an ONNX file that hold its weights, relative to its folder; none for most encoders.

    Raises EncoderError when one lies elsewhere, or is missing.
    """
    return _external_data(path, _parse(path))


def _external_data(path: Path, model: ModelProto) -> list[str]:
    from onnx import TensorProto

    folder = path.parent.resolve()
    locations = set()
    for tensor in _all(TensorProto, model):
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            locations.add(str(entries.get("location", "")))
    for location in sorted(locations):
        if not _is_beside(folder, location):
            raise EncoderError(f"{path}: its weights are in {quoted(location)}, not beside it; copy them together")
    return sorted(locations)


def _is_beside(folder: Path, location: str) -> bool:
    try:
        held = (folder / location).resolve()
        return held.is_relative_to(folder) and held.is_file()
    except (OSError, RuntimeError, ValueError):  # names that no file can have, and links that go round in circles
        return False


def _digest(path: Path, model: ModelProto) -> str:
    others = _external_data(path, model)
    digests = [_sha256(path), *(f"{name} {_sha256(path.parent / name)}" for name in others)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest() if others else digests[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
