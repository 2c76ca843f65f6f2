"""Tilings: what decides which patches exist, and its readable name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from lake import store
from udfs.errors import HistolakeError
from udfs.slide import Area

MAX_OD = 10.0  # bytes end at log(255)
MAX_STRIDE_PX = 1_000_000  # farther than any slide reaches


@dataclass(frozen=True)
class Tiling:
    """The parameters of a patch set, see tables.PATCH_SETS; lengths of the region in level-0 px."""

    patch_px: int
    mpp: float
    tiling: str = "grid"
    stride_px: int | None = None  # the patch's edge
    min_tissue: float = 0.1
    tissue_od: float = 0.05
    allow_upsampling: bool = False
    region: Area | None = None

    def row(self) -> dict[str, object]:
        """The row of the table patch_sets, its name included.

        Raises HistolakeError when a parameter makes no sense.
        """
        self._check()
        is_grid = self.tiling == "grid"
        area = self.region
        values: dict[str, object] = {
            "tiling": self.tiling,
            "patch_px": self.patch_px,
            "mpp": self.mpp,
            "stride_px": (self.stride_px or self.patch_px) if is_grid else None,
            "min_tissue": self.min_tissue if is_grid else None,
            "tissue_od": self.tissue_od,
            "allow_upsampling": self.allow_upsampling,
            "region_x": area.x if area else None,
            "region_y": area.y if area else None,
            "region_width": area.width if area else None,
            "region_height": area.height if area else None,
        }
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]
        segment = "-region" if area else ""
        return {"patch_set": f"{self.tiling}-{self.patch_px}px-{self.mpp:g}mpp{segment}-{digest}", **values}

    def _check(self) -> None:
        if not 8 <= self.patch_px <= 4096:
            raise HistolakeError(f"--patch-px {self.patch_px}: a patch has 8 to 4096 px")
        if not 0.05 <= self.mpp <= 100:
            raise HistolakeError(f"--mpp {self.mpp:g}: resolutions lie between 0.05 and 100 microns per pixel")
        if not 0 <= self.min_tissue <= 1:
            raise HistolakeError(f"--min-tissue {self.min_tissue:g}: a fraction lies between 0 and 1")
        if not 0 <= self.tissue_od <= MAX_OD:
            raise HistolakeError(f"--tissue-od {self.tissue_od:g}: optical densities lie between 0 and {MAX_OD:g}")
        if self.stride_px is not None and not 1 <= self.stride_px <= MAX_STRIDE_PX:
            raise HistolakeError(f"--stride-px {self.stride_px}: the step is at least 1 px, at most {MAX_STRIDE_PX:,}")


def register(root: Path, tiling: Tiling, run_id: str) -> str:
    """Write the tiling to the lake unless it is there; returns its patch_set."""
    row = tiling.row()
    known = store.rows(root, "patch_sets")["patch_set"].to_list()
    if row["patch_set"] not in known:
        store.put(root, "patch_sets", [row], run_id)
    return str(row["patch_set"])
