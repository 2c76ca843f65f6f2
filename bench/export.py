"""What exporting the heatmap of a large slide costs: `python bench/export.py`."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from lake.export import tile_objects
from lake.geojson import write_geojson
from lake.heatmap_tiff import write_heatmap_tiff

EDGE = 100_000  # px of the slide
SPAN = 448.0  # px of a patch: 224 px at 0.5 microns per pixel, on a slide of 0.25
TISSUE = 0.3  # of the slide, one round piece


def main() -> None:
    """Print seconds, size and memory of the TIFF and the GeoJSON of one slide."""
    tiles = scored_tiles()
    print(f"{EDGE:,} x {EDGE:,} px, {tiles.height:,} patches")
    with tempfile.TemporaryDirectory() as folder:
        tiff, geojson = Path(folder) / "heatmap.tif", Path(folder) / "tiles.geojson"
        measure(
            tiff,
            lambda: write_heatmap_tiff(tiff, tiles, width=EDGE, height=EDGE, mpp=(0.25, 0.25), description="bench"),
        )
        measure(geojson, lambda: write_geojson(geojson, tile_objects(tiles, "slide", "model", 0.5), {}))


def scored_tiles() -> pl.DataFrame:
    """A grid of patches over the tissue, each of another probability."""
    at = np.arange(EDGE // SPAN) * SPAN
    x, y = (each.ravel() for each in np.meshgrid(at, at))
    is_tissue = (x - EDGE / 2) ** 2 + (y - EDGE / 2) ** 2 < TISSUE * EDGE**2 / np.pi
    probability = np.random.default_rng(0).random(is_tissue.sum())
    columns = {"x": x[is_tissue], "y": y[is_tissue], "span_x": SPAN, "span_y": SPAN, "probability": probability}
    return pl.DataFrame(columns)


def measure(path: Path, write: Callable[[], object]) -> None:
    """Print what a file costs."""
    clock, processor = time.perf_counter(), time.process_time()
    write()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    size = path.stat().st_size / 2**20
    print(
        f"{path.name}: {clock:.0f} s, {processor:.0f} s of processors, {size:.0f} MiB; process at most {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
