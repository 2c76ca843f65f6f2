"""Where the time of a slide goes, and how far each step is from what the machine can do: into docs/performance.md.

`python bench/limits.py [--folder F]`. Limits are those of the whole machine, all processors at once.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import networks
import numpy as np
import onnx
import race
import report
import simplejpeg
import slides
import speed_crop
import speed_embed
import speed_slide

from lake import session
from udfs.encoders.encoder import Encoder
from udfs.processors import cores

PATCHES = 2_000  # of the slide whose stages are timed
TILES = 400
MATRIX = 2_048  # edge of the matrices that are multiplied
COPIED = 2**28  # bytes
GIGA = 1e9


def main() -> None:
    """Measure the limits, the steps and the stages, and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep what is generated here, or use what is here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="histolake-bench-") as made:
        folder = asked.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        machine = f"{report.machine()}, load {os.getloadavg()[0]:.1f} before"
        piece = slides.real_piece()
        parts = {"limits": f"{_limits(folder, piece)}\n\n{machine}.", "stages": _stages(folder, piece)}
        report.mark("limits", "performance.md", parts)


def _limits(folder: Path, piece: slides.Piece) -> str:
    tiles, sums, copies = _jpeg_rate(piece), _matrix_rate(), _copy_rate()
    rows = []
    for name in speed_embed.IMAGES:
        spec, file, _ = networks.prepare(name, folder, "fp32")
        px, encoder = spec.input_px, Encoder(spec, file)
        slide, places = speed_crop.square_slide(folder, piece), speed_crop.gridded(px)
        crop = speed_crop.contenders(folder, slide, places[: speed_crop.PATCHES], px)[race.OURS]
        images = speed_embed.ready(slide, places[: speed_embed.IMAGES[name]], px)
        found = race.rates({"crop": crop, "embed": partial(speed_embed.by_session, encoder, images)}, rounds=3)
        cropped, embedded = (float(np.median(found[step])) for step in ("crop", "embed"))
        most_cropped = tiles * (slides.TILE_PX / px) ** 2
        most_embedded = sums / _operations(file, encoder.batch)
        bytes_moved = 3 * 3 * px * px  # out of the tile, into DuckDB's column, out of it
        rows += [
            _row(f"crop at {px} px, gridded", cropped, "decoding JPEG tiles", most_cropped),
            _row(f"crop at {px} px, gridded", cropped, "copying pixels three times", copies / bytes_moved),
            _row(f"embed, {name}, fp32 by {encoder.provider}", embedded, "multiplying matrices, fp32", most_embedded),
        ]
    found_limits = (
        f"Limits: {tiles:,.0f} JPEG tiles of {slides.TILE_PX} px, {sums / GIGA:,.0f} billion additions and "
        f"multiplications in fp32, {copies / GIGA:.1f} GB copied, each a second; {piece.about}."
    )
    columns = ("step", "patches/s", "its limit", "patches/s at the limit", "used")
    return f"{report.grid(columns, rows)}\n\n{found_limits}"


def _row(step: str, rate: float, limit: str, most: float) -> tuple[str, ...]:
    return step, race.amount(rate), limit, race.amount(most), f"{rate / most:.0%}"


def _jpeg_rate(piece: slides.Piece) -> float:
    """Tiles of the piece decoded a second by libjpeg-turbo."""
    encoded = [*slides.encode(piece)][:TILES]

    def decode() -> int:
        with ThreadPoolExecutor(cores()) as pool:
            return sum(len(tile) > 0 for tile in pool.map(simplejpeg.decode_jpeg, encoded))

    return max(race.rates({"jpeg": decode}, rounds=3)["jpeg"])


def _matrix_rate() -> float:
    """Additions and multiplications a second of a large product in fp32, by NumPy's BLAS."""
    a = np.random.default_rng(0).random((MATRIX, MATRIX), np.float32)
    return max(race.rates({"product": lambda: 2 * MATRIX**3 * len(a @ a) // MATRIX}, rounds=5)["product"])


def _copy_rate() -> float:
    """Bytes copied a second; each is read once and written once."""
    source = [np.ones(COPIED // cores(), np.uint8) for _ in range(cores())]
    target = [np.empty_like(each) for each in source]

    def copy() -> int:
        with ThreadPoolExecutor(cores()) as pool:
            [*pool.map(np.copyto, target, source)]
        return sum(each.nbytes for each in source)

    return max(race.rates({"copy": copy}, rounds=5)["copy"])


def _operations(file: Path, batch: int) -> float:
    """Additions and multiplications of the network's convolutions for one image."""
    model = onnx.load(file)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    graph = onnx.shape_inference.infer_shapes(model).graph
    sizes = {each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in graph.value_info}
    kernels = {each.name: each.dims for each in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    counts = [math.prod(sizes[node.output[0]]) * math.prod(kernels[node.input[1]][1:]) for node in nodes]
    return 2.0 * float(sum(counts)) / batch


def _stages(folder: Path, piece: slides.Piece) -> str:
    """Seconds of a slide's stages as its ledger has them, and of the commands around them."""
    scored = speed_slide.score(folder, speed_slide.lake_with_model(folder), piece, PATCHES)
    with session.connect(folder / f"lake-{PATCHES}", udfs=()) as con:
        slide = f"slide-{PATCHES}-{speed_slide.PX}"
        spent = con.execute(
            "select stage, sum(seconds) from runs where slide_id = $slide group by all order by min(finished_at)",
            {"slide": slide},
        ).fetchall()
    rows: list[Sequence[str]] = [(f"stage {stage}", f"{seconds:.2f}") for stage, seconds in spent]
    rows += [(f"`histolake {name}`, the whole process", f"{each.seconds:.2f}") for name, each in scored.ran.items()]
    return f"{report.grid(('of a slide', 'seconds'), rows)}\n\n{scored.patches:,} patches, {speed_slide.ENCODER}."


if __name__ == "__main__":
    main()
