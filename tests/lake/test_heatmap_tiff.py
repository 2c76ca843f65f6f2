"""OpenSlide shows the heatmap over the slide: same size, same resolution, each patch in its color."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import polars as pl
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.heatmap import probability_colors
from lake.heatmap_tiff import write_heatmap_tiff
from udfs.errors import HistolakeError

WHITE = [255, 255, 255]


def grid(columns: int, rows: int, span: tuple[float, float], probability: list[float | None]) -> pl.DataFrame:
    x, y = np.meshgrid(np.arange(columns) * span[0], np.arange(rows) * span[1])
    frame = pl.DataFrame({"x": x.ravel(), "y": y.ravel(), "probability": probability}, strict=False)
    return frame.with_columns(span_x=pl.lit(span[0]), span_y=pl.lit(span[1]))


def colour(slide: openslide.OpenSlide, level: int, x: float, y: float) -> list[int]:
    """The color at the level-0 place (x, y)."""
    (full_width, full_height), (width, height) = slide.level_dimensions[0], slide.level_dimensions[level]
    at = int(x * width / full_width), int(y * height / full_height)
    place = tuple(int(np.ceil(each * slide.level_downsamples[level])) for each in at)
    return list(slide.read_region(place, level, (1, 1)).getpixel((0, 0))[:3])


def test_openslide_reads_the_grid_that_was_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tiff") / "heatmap.tif"

    @settings(deadline=None, max_examples=20)
    @given(
        size=st.tuples(st.integers(600, 2500), st.integers(600, 2500)),
        span=st.tuples(st.floats(60, 300), st.floats(60, 300)),
        mpp=st.tuples(st.floats(0.1, 4), st.floats(0.1, 4)),
        seed=st.integers(0, 10**6),
    )
    def check(size: tuple[int, int], span: tuple[float, float], mpp: tuple[float, float], seed: int) -> None:
        columns, rows = int(size[0] // span[0]), int(size[1] // span[1])
        rng = np.random.default_rng(seed)
        probability = [None if value > 0.8 else value for value in rng.random(columns * rows).tolist()]
        tiles = grid(columns, rows, span, probability)
        write_heatmap_tiff(path, tiles, width=size[0], height=size[1], mpp=mpp, description="test")
        with openslide.OpenSlide(path) as slide:
            assert slide.dimensions == size
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp[0], rel=1e-6)
            assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(mpp[1], rel=1e-6)
            assert max(slide.level_dimensions[-1]) <= 512
            for level, downsample in enumerate(slide.level_downsamples):
                assert downsample == pytest.approx(2**level, rel=0.01)
                for x, y, value in (
                    tiles.sample(8, seed=seed, with_replacement=True).select("x", "y", "probability").rows()
                ):
                    centre = x + span[0] / 2, y + span[1] / 2
                    expected = WHITE if value is None else probability_colors(np.array([value]))[0].tolist()
                    # levels that are not whole numbers apart: OpenSlide blends tiles where they meet
                    assert colour(slide, level, *centre) == pytest.approx(expected, abs=2), (level, centre)

    check()


def test_every_pixel_of_level_0_is_the_patchs_or_white(tmp_path: Path) -> None:
    tiles = grid(3, 2, (300.0, 250.0), [0, 0.25, 0.5, 0.75, 1, None])
    write_heatmap_tiff(tmp_path / "x.tif", tiles, width=1000, height=700, mpp=(0.5, 0.25), description="ä patch")
    expected = np.full((700, 1000, 3), 255, np.uint8)
    for x, y, value in tiles.drop_nulls().select("x", "y", "probability").rows():
        expected[int(y) : int(y) + 250, int(x) : int(x) + 300] = probability_colors(np.array([value]))[0]
    with openslide.OpenSlide(tmp_path / "x.tif") as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, (1000, 700)).convert("RGB"))
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.properties["tiff.ImageDescription"] == r"\xe4 patch"
    assert (pixels == expected).all()


def test_overlapping_patches_show_their_mean_across_the_tiles_of_the_file(tmp_path: Path) -> None:
    both = pl.DataFrame({"x": [0.0, 400.0], "y": 0.0, "span_x": 800.0, "span_y": 1200.0, "probability": [0.25, 0.75]})
    write_heatmap_tiff(tmp_path / "x.tif", both, width=1300, height=1200, mpp=None, description="")
    with openslide.OpenSlide(tmp_path / "x.tif") as slide:
        row = np.asarray(slide.read_region((0, 600), 0, (1300, 1)).convert("RGB"))[0]
        assert "openslide.mpp-x" not in slide.properties
    values = probability_colors(np.array([0.25, 0.5, 0.75]))
    wanted = [[400, values[0]], [400, values[1]], [400, values[2]], [100, WHITE]]
    assert row.tolist() == np.concatenate([np.tile(color, (length, 1)) for length, color in wanted]).tolist()


def test_without_patches_the_file_is_white(tmp_path: Path) -> None:
    write_heatmap_tiff(tmp_path / "x.tif", grid(0, 0, (1.0, 1.0), []), width=700, height=10, mpp=None, description="")
    with openslide.OpenSlide(tmp_path / "x.tif") as slide:
        assert (np.asarray(slide.read_region((0, 0), 0, (700, 10))) == 255).all()


def test_a_slide_of_a_scanners_size_is_written_small_and_as_bigtiff(tmp_path: Path) -> None:
    tiles = grid(4, 4, (448.0, 448.0), [0.5] * 16)
    write_heatmap_tiff(tmp_path / "x.tif", tiles, width=60_000, height=25_000, mpp=(0.25, 0.25), description="")
    assert (tmp_path / "x.tif").stat().st_size < 12e6  # of 4.5 GB of pixels
    with tifffile.TiffFile(tmp_path / "x.tif") as tiff:
        assert tiff.is_bigtiff
    with openslide.OpenSlide(tmp_path / "x.tif") as slide:
        assert slide.dimensions == (60_000, 25_000)
        assert colour(slide, 0, 1000, 1000) == probability_colors(np.array([0.5]))[0].tolist()
        assert colour(slide, 0, 59_000, 24_000) == WHITE


def test_logits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HistolakeError, match="are they logits"):
        write_heatmap_tiff(tmp_path / "x.tif", grid(1, 1, (9.0, 9.0), [3]), width=9, height=9, mpp=None, description="")
