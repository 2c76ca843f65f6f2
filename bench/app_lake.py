"""A lake as large as the app has to bear: 1,000 slides, 10 million predictions, one slide of 100,000 patches.

All slides are links to one pyramid of generated tissue.
"""

from __future__ import annotations

from pathlib import Path

import lakes
from app_slide import write_slide
from lake_rows import slides_of
from lakes import MODEL, PATCH_SET

__all__ = ["LARGE", "MODEL", "PATCH_SET", "write"]

SLIDES = 1000
LARGE = "large"  # the slide of most patches
LARGE_PATCHES = 100_000
PREDICTIONS = 10_000_000


def write(folder: Path) -> Path:
    """Write the slides and the lake into a folder; returns the lake's. Takes minutes and some gigabytes of disk."""
    file = folder / "slide.tif"
    write_slide(file)
    others = -(-(PREDICTIONS - LARGE_PATCHES) // (SLIDES - 1))
    sizes = {LARGE: LARGE_PATCHES, **{f"slide {number:04d}": others for number in range(1, SLIDES)}}
    (folder / "slides").mkdir()
    slides = slides_of(sizes, lambda name: folder / "slides" / f"{name}.tif")
    for slide in slides:
        slide.path.symlink_to(file)
    return lakes.write(folder / "lake", slides)
