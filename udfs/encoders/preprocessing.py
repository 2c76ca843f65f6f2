"""How the RGB bytes of patches become an encoder's input, as canonical JSON that its identity covers.

{"dtype": "uint8", "input_px": 224, "layout": "nhwc"} passes the bytes on. For floats it also has
scale, mean and std (one each for R, G, B): the input is (byte * scale - mean) / std.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.encoders.onnx_file import MAX_INPUT_PX, OnnxFile
from udfs.errors import EncoderError

Pixels = NDArray[np.uint8]
FLOAT32_MAX = float(np.finfo(np.float32).max)
_NORMALISATION = {"scale": 1.0, "mean": 0.0, "std": 1.0}


def describe_input(file: OnnxFile, input_px: int | None, given: Mapping[str, object]) -> str:
    """Canonical JSON for a file's input, with the normalisation `given` (scale, mean, std).

    `input_px` is needed where the file leaves its edges open. Raises EncoderError naming the file.
    """
    facts: dict[str, object] = {"dtype": file.dtype, "input_px": _edge(file, input_px), "layout": file.layout}
    unknown = set(given) - set(_NORMALISATION)
    if unknown:
        raise EncoderError(f"{file.path}: unknown preprocessing {', '.join(sorted(unknown))}; use scale, mean, std")
    if file.dtype != "uint8":
        facts["scale"] = _numbers(file, "scale", given)[0]
        facts["mean"] = _numbers(file, "mean", given)
        facts["std"] = _numbers(file, "std", given)
    elif given:
        raise EncoderError(f"{file.path}: its input is bytes, so it normalises by itself; leave out {', '.join(given)}")
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def to_input(facts: Mapping[str, Any], pixels: Pixels) -> NDArray[Any]:
    """Turn bytes (n, input_px, input_px, 3) into the graph's input as `facts`, parsed from the JSON, say."""
    if facts["dtype"] == "uint8":
        values: NDArray[Any] = pixels
    else:
        values = pixels * np.float32(facts["scale"])
        values -= np.float32(facts["mean"])
        values /= np.float32(facts["std"])
    if facts["layout"] == "nchw":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, facts["dtype"])


def _edge(file: OnnxFile, input_px: int | None) -> int:
    fixed = [edge for edge in (file.height, file.width) if isinstance(edge, int)]
    wanted = {*fixed} | ({input_px} if input_px is not None else set())
    if not wanted:
        raise EncoderError(f"{file.path}: its input has no fixed size; say which with an input size in pixels")
    if len(wanted) > 1:
        sizes = " and ".join(str(edge) for edge in sorted(wanted))
        raise EncoderError(f"{file.path}: edges of {sizes} px do not agree; patches are square, export it for one size")
    edge = wanted.pop()
    if not 1 <= edge <= MAX_INPUT_PX:
        raise EncoderError(f"{file.path}: an input of {edge} px; patches have 1 to {MAX_INPUT_PX} px")
    return edge


def _numbers(file: OnnxFile, key: str, given: Mapping[str, object]) -> list[float]:
    """Three numbers, one for each channel, from three or one."""
    value = given.get(key, _NORMALISATION[key])
    values = [*value] if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 3
    numbers = [float(each) for each in values if isinstance(each, int | float) and abs(each) <= FLOAT32_MAX]
    if len(numbers) != 3 or len(values) != 3:
        raise EncoderError(f"{file.path}: {key} is {value!r}; give one number, or one each for R, G, B")
    if key == "std" and 0 in np.array(numbers, np.float32):
        raise EncoderError(f"{file.path}: a std of 0 divides by zero; give the one that it was trained with")
    return numbers
