"""The slide of the app's benchmark."""

from __future__ import annotations

from pathlib import Path

import slides

EDGE = 32_768  # of every slide, level-0 px
MPP = 0.25


def write_slide(path: Path) -> None:
    """A pyramid of EDGE x EDGE px, JPEG: one piece of generated tissue over and over."""
    slides.write_slide(path, slides.generated_piece(), EDGE, EDGE, slides.everywhere(EDGE, EDGE), MPP)
