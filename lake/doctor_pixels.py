"""Whether slides can be read and embedded here: OpenSlide, image libraries, ONNX Runtime, encoders."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lake.doctor_notes import Note, error, ok, warning

if TYPE_CHECKING:
    from udfs.encoders.onnx_file import OnnxFile

WIDTH, HEIGHT, PATCH = 640, 480, 128  # px of the slide that is generated, and of what is read of it
MOST_JPEG = 6  # gray levels that JPEG may move a pixel of a gradient by
INPUT_PX = 16
WEIGHTS = (1.0, 2.0, 3.0)  # of red, green and blue in the graph that is computed
CLOSE = 1e-3  # fp32 through any order of sums


def openslide(_: Path) -> Iterator[Note]:
    """OpenSlide's version, and whether it reads a pyramid that is written here."""
    from openslide import __library_version__

    from lake.pyramid import write_pyramid
    from udfs import slide

    pixels = _gradient(WIDTH, HEIGHT)
    with tempfile.TemporaryDirectory(prefix="histolake-doctor-") as folder:
        path = Path(folder) / "generated.tif"
        write_pyramid(path, pixels, mpp=0.5, description="histolake doctor")
        found = slide.metadata(str(path))
        read = slide.read_area(str(path), slide.Area(256, 128, PATCH, PATCH), PATCH, PATCH)
    version = f"OpenSlide {__library_version__}"
    expected = pixels[128 : 128 + PATCH, 256 : 256 + PATCH]
    if (found["width"], found["height"]) != (str(WIDTH), str(HEIGHT)) or _differ(read, expected):
        yield error(f"{version} reads other pixels than were written", "install openslide-bin anew")
    else:
        yield ok(f"{version} opens a pyramid of {found['openslide.level-count']} levels and reads what was written")


def images(_: Path) -> Iterator[Note]:
    """Whether JPEG and PNG come back as they were written, through each library that decodes them."""
    import simplejpeg
    from PIL import Image

    pixels = _gradient(PATCH, PATCH)
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=95, subsampling="4:4:4")
    Image.fromarray(pixels).save(png, "PNG")
    decoded = {
        "Pillow's JPEG": np.asarray(Image.open(jpeg)),
        "simplejpeg's JPEG": simplejpeg.decode_jpeg(jpeg.getvalue()),
        "Pillow's PNG": np.asarray(Image.open(png)),
    }
    wrong = [name for name, found in decoded.items() if _differ(found, pixels)]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("pillow", "simplejpeg", "tifffile"))
    if wrong:
        yield error(f"{versions}: {', '.join(wrong)} has other pixels than were written", "install them anew")
    else:
        yield ok(f"{versions}: JPEG and PNG come back as written")


def _gradient(width: int, height: int) -> NDArray[np.uint8]:
    """Smooth colours, other ones at every place: RGB, shape (height, width, 3)."""
    x, y = np.meshgrid(np.linspace(20, 235, width), np.linspace(20, 235, height))
    return np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8)


def _differ(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    return found.shape != expected.shape or bool(
        np.abs(found.astype(np.int16) - expected.astype(np.int16)).max() > MOST_JPEG
    )


def onnxruntime(_: Path) -> Iterator[Note]:
    """What each provider that encoders may run on makes of a graph whose result is known."""
    from udfs.encoders import sessions
    from udfs.encoders.onnx_file import inspect

    version = f"ONNX Runtime {metadata.version('onnxruntime')}"
    with tempfile.TemporaryDirectory(prefix="histolake-doctor-") as folder:
        path = Path(folder) / "generated.onnx"
        _write_graph(path)
        file = inspect(path)
        for provider in sessions.providers("fp32"):
            try:
                worst = _error_of(file, provider)
            except sessions.runtime_errors() as failure:
                worst = None
                why = f"{version} on {provider} cannot run a graph ({sessions.summary(failure)})"
            remedy = "install onnxruntime anew"
            if provider != "CPU":
                remedy = f"install what {provider} needs, or take its package away: encoders then run on the CPU"
            if worst is None:
                yield (error if provider == "CPU" else warning)(why, remedy)
            elif worst > CLOSE:
                yield error(f"{version} on {provider} computes wrong numbers, {worst:.2g} beside", remedy)
            else:
                honoured = [each for each in sessions.PRECISIONS if provider in sessions.providers(each)]
                yield ok(f"{version} on {provider} computes what is expected; takes {', '.join(honoured)}")


def _write_graph(path: Path) -> None:
    """An ONNX file: of each image the mean of red + 2 green + 3 blue."""
    import onnx
    from onnx import TensorProto, helper

    weights = helper.make_tensor("weights", TensorProto.FLOAT, [1, 3, 1, 1], WEIGHTS)
    nodes = [
        helper.make_node("Conv", ["pixels", "weights"], ["sums"]),
        helper.make_node("GlobalAveragePool", ["sums"], ["means"]),
        helper.make_node("Flatten", ["means"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "doctor",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, INPUT_PX, INPUT_PX])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 1])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _error_of(file: OnnxFile, provider: str) -> float | None:
    """How far the provider's numbers are from those that are expected, at most; None where it left the graph alone."""
    from udfs.encoders import sessions

    session = sessions.open_on(file, provider, "fp32", INPUT_PX)
    if session is None:
        return None
    pixels = np.random.default_rng(0).random((session.batch, 3, INPUT_PX, INPUT_PX), np.float32)
    (found,) = session.session.run(None, {file.input_name: pixels})
    expected = np.tensordot(pixels.mean(axis=(2, 3)), np.array(WEIGHTS), axes=1)
    return float(np.abs(np.asarray(found)[:, 0] - expected).max())


def encoders(root: Path) -> Iterator[Note]:
    """The ONNX file of each encoder of the lake, and which of those that ship are at hand."""
    from lake import session, store
    from udfs.encoders import catalog, inception_v3
    from udfs.encoders.onnx_file import inspect
    from udfs.encoders.weights import fetch, local_path
    from udfs.errors import EncoderError

    known = store.rows(root, "encoders").sort("encoder_id").to_dicts() if store.is_lake(root) else []
    for row in known:
        file = session.encoder_file(root, row["sha256"])
        remedy = "restore it from a backup, or from where it was added"
        try:
            found = inspect(file).sha256
        except EncoderError as failure:
            yield error(f"{row['encoder_id']}: {str(failure).partition('; ')[0]}", remedy)
            continue
        if found == row["sha256"]:
            yield ok(f"{row['encoder_id']}: its file is in the lake, whole")
        else:
            yield error(f"{row['encoder_id']}: {file} is another file than was added", remedy)
    if local_path(inception_v3.WEIGHTS):
        fetch(inception_v3.WEIGHTS)  # it is here: verified, nothing is fetched
    ready = [name for name in catalog.BUILT_IN if catalog.available(name)]
    absent = [name for name in catalog.BUILT_IN if name not in ready]
    fetched = f"; fetched when asked for: {', '.join(absent)}" if absent else ""
    yield ok(f"at hand without network: {', '.join(ready)}{fetched}")
