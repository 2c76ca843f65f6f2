"""Slides that take the place of others while a lake is used; see bench/soak.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lake.pyramid import write_pyramid

EDGE_PX, CELL_PX, MPP = 768, 96, 0.972


def write_slide(path: Path, seed: int) -> None:
    """A slide of coloured cells, some of them purple, and its outline; they take the place of those before at once."""
    rng = np.random.default_rng(seed)
    cells = EDGE_PX // CELL_PX
    is_tumor = np.zeros((cells, cells), bool)
    is_tumor[2:6, 2 : 3 + seed % 4] = True
    colours = np.where(is_tumor[..., None], (120, 60, 150), (226, 150, 190)).repeat(CELL_PX, 0).repeat(CELL_PX, 1)
    pixels = (colours + rng.normal(0, 12, (EDGE_PX, EDGE_PX, 1))).clip(0, 255).astype(np.uint8)
    partial = path.with_suffix(".partial")
    write_pyramid(partial, pixels, mpp=MPP, description="soak")
    right, bottom = (3 + seed % 4) * CELL_PX, 6 * CELL_PX
    corners = [(192, 192), (right, 192), (right, bottom), (192, bottom)]
    points = "".join(f'<Coordinate Order="{order}" X="{x}" Y="{y}"/>' for order, (x, y) in enumerate(corners))
    shape = f'<Annotation Name="1" Type="Polygon" PartOfGroup="Tumor"><Coordinates>{points}</Coordinates></Annotation>'
    outline = path.with_suffix(".outline")
    outline.write_text(f"<ASAP_Annotations><Annotations>{shape}</Annotations></ASAP_Annotations>", encoding="utf-8")
    outline.replace(path.with_suffix(".xml"))
    partial.replace(path)
