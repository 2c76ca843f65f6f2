"""Patches a second from a slide: the SQL function crop beside OpenSlide by hand, and beside other readers.

Every round opens the slide anew under a name of its own, so that nothing decoded is left from the round before. Each
contender reads the same rows in the same order on as many threads as there are processors, and ends with RGB bytes.

ratiopath's own stage runs in Ray; here its reader gets batches on threads. LazySlide and dlup crop by OpenSlide as the
loop does, under more layers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import openslide
import pyarrow as pa
import race
import slides
from race import OURS, Figure

from lake.compute import LEAST_SLICE, PIXEL_ROWS
from udfs.processors import cores
from udfs.registry import UDFS
from udfs.slide import crop  # noqa: F401  (declares it)

MPP = 0.5
SQUARE_PX = 30_000
WIDE_PX, LOW_PX = 120_000, 1_280  # OpenSlide's own cache, 32 MiB, holds a row of tiles of 32,768 px
PATCHES = 1_200  # that a contender reads in a round
SIZES = (224, 299)  # of efficientnet_lite0 and inception_v3
BARE = "OpenSlide loop"
PEERS = ("tiffslide", "fastslide", "ratiopath")

Places = list[tuple[int, int]]
Contenders = dict[str, Callable[[], int]]

_numbers = itertools.count()  # of the names that the slides are opened under


def measure(folder: Path) -> list[Figure]:
    """Gridded, in the order of the stage features; at random; as labels are sampled; and row by row on a wide slide."""
    piece = slides.real_piece()
    square, wide = square_slide(folder, piece), folder / "wide.tif"
    if not wide.exists():
        slides.write_slide(wide, piece, WIDE_PX, LOW_PX, slides.everywhere(WIDE_PX, LOW_PX), MPP)
    figures: list[Figure] = []
    for px in SIZES:
        grid, rng = gridded(px), np.random.default_rng(0)
        sampled = [grid[number] for number in sorted(rng.choice(len(grid), PATCHES, replace=False))]
        anywhere = [(int(x), int(y)) for x, y in rng.integers(0, SQUARE_PX - px, (4 * PATCHES, 2))]
        by_rows = [(x, y) for y in range(0, LOW_PX - px + 1, px) for x in range(0, WIDE_PX - px + 1, px)]
        for order, slide, places, bar in (
            ("gridded", square, grid[:PATCHES], 1.0),
            ("at random", square, on_tissue(anywhere, px)[:PATCHES], 0.95),
            ("where labels are sampled", square, sampled, None),
            (f"row by row, slide {WIDE_PX:,} px wide", wide, by_rows, 1.3),
        ):
            measured = race.rates(contenders(folder, slide, places, px))
            bars = {BARE: bar, **dict.fromkeys(PEERS)}
            found = race.against(f"crop at {px} px, {order}", "patches/s", measured, bars)
            figures += [replace(each, note=piece.about) for each in found]
    return figures


def square_slide(folder: Path, piece: slides.Piece) -> Path:
    """A slide of 30,000 x 30,000 px, tissue on 60 % of it."""
    path = folder / "square.tif"
    if not path.exists():
        tissue = slides.in_islands(SQUARE_PX, SQUARE_PX)
        slides.write_slide(path, piece, SQUARE_PX, SQUARE_PX, tissue, MPP)
    return path


def gridded(px: int) -> Places:
    """The patches of the square slide side by side, in the order in which sql/features.sql reads them."""
    steps = range(0, SQUARE_PX - px + 1, px)
    places = on_tissue([(x, y) for x in steps for y in steps], px)
    return sorted(places, key=lambda place: (place[1] // 1024, place[0] // 1024, place[1], place[0]))


def on_tissue(places: Places, px: int) -> Places:
    """The patches of the square slide whose centre is on tissue."""
    tissue, half, tile = slides.in_islands(SQUARE_PX, SQUARE_PX), px // 2, slides.TILE_PX
    return [(x, y) for x, y in places if tissue[(y + half) // tile, (x + half) // tile]]


def contenders(folder: Path, slide: Path, places: Places, px: int) -> Contenders:
    """Who crops the same patches: each call opens the slide anew, and returns how many there were."""

    def anew(work: Callable[[str, Places, int], int]) -> Callable[[], int]:
        def call() -> int:
            path = folder / f"{slide.stem}-{os.getpid()}-{next(_numbers)}.tif"
            path.symlink_to(slide.absolute())
            try:
                return work(str(path), places, px)
            finally:
                path.unlink()

        return call

    works = {OURS: in_sql, BARE: by_openslide, "tiffslide": by_tiffslide, "fastslide": by_fastslide}
    return {name: anew(work) for name, work in {**works, "ratiopath": by_ratiopath}.items()}


def table(path: str, places: Places, px: int) -> pa.Table:
    """Rows for crop, in slices as the pipeline cuts them."""
    xs, ys = zip(*places, strict=True)
    rows = pa.table({"path": [path] * len(places), "x": xs, "y": ys, "px": [px] * len(places)})
    slices = rows.to_batches(max_chunksize=min(PIXEL_ROWS, max(LEAST_SLICE, -(-len(places) // (4 * cores())))))
    return pa.Table.from_batches(slices)


def in_sql(path: str, places: Places, px: int) -> int:
    """The SQL function crop."""
    with duckdb.connect(config={"threads": cores()}) as con:
        UDFS["crop"].register(con)
        con.register("patches", table(path, places, px))
        sizes = con.execute("select octet_length(crop(path, x, y, px, px, px::integer).pixels) from patches").fetchall()
    return sum(size == px * px * 3 for (size,) in sizes)


def on_threads(read: Callable[[tuple[int, int]], bytes], places: Places) -> int:
    """Call a reader for every patch, on as many threads as there are processors."""
    with ThreadPoolExecutor(cores()) as pool:
        return sum(len(pixels) > 0 for pixels in pool.map(read, places))


def by_openslide(path: str, places: Places, px: int) -> int:
    """What a script does."""
    with openslide.OpenSlide(path) as slide:
        return on_threads(lambda at: slide.read_region(at, 0, (px, px)).convert("RGB").tobytes(), places)


def by_tiffslide(path: str, places: Places, px: int) -> int:
    """OpenSlide's interface over tifffile and zarr."""
    import tiffslide

    with tiffslide.TiffSlide(path) as slide:
        return on_threads(lambda at: slide.read_region(at, 0, (px, px), as_array=True).tobytes(), places)


def by_fastslide(path: str, places: Places, px: int) -> int:
    """A reader in C++."""
    import fastslide

    with fastslide.FastSlide.from_file_path(path) as slide:
        return on_threads(lambda at: slide.read_region(at, 0, (px, px)).numpy().tobytes(), places)


def by_ratiopath(path: str, places: Places, px: int) -> int:
    """Its reader of batches; in its own pipelines Ray calls it in processes."""
    from ratiopath.tiling import read_slide_tiles

    def read(batch: Places) -> int:
        xs, ys = zip(*batch, strict=True)
        columns = {"tile_x": xs, "tile_y": ys, "level": 0, "tile_extent_x": px, "tile_extent_y": px}
        return len(read_slide_tiles({"path": [path] * len(batch), **columns})["tile"])

    size = -(-len(places) // (4 * cores()))
    batches = [places[start : start + size] for start in range(0, len(places), size)]
    with ThreadPoolExecutor(cores()) as pool:
        return sum(pool.map(read, batches))
