"""What the command line must know to describe itself, without an import that takes time."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from lake import storage
from udfs.errors import HistolakeError

DEFAULT_LAKE = "data"
HEADS = ("logistic", "mlp", "deep")  # names of those in lake/heads.py
CALIBRATIONS = {"platt": "sigmoid", "temperature": "temperature"}  # our name, scikit-learn's


@dataclass
class Tracing:
    """Whether every SQL statement of this process is printed to stderr."""

    on: bool = False


tracing = Tracing()


def lake_path(path: str | Path | None = None) -> Path:
    """The lake meant: `path`, else the environment's HISTOLAKE_LAKE, else ./data.

    A folder, or, as s3://BUCKET/PREFIX, one in object storage, which answers alike; see `storage.address`.
    """
    text = str(path or os.environ.get("HISTOLAKE_LAKE") or DEFAULT_LAKE)
    return storage.address(text) if storage.is_remote(text) else Path(text).expanduser().absolute()


class Meaning(StrEnum):
    """What a group of annotations says of the area that is drawn."""

    tumor = "tumor"
    normal = "normal"
    exclusion = "exclusion"
    none = "none"


class Role(StrEnum):
    """What a person may do in the app; each may all that those before it may."""

    viewer = "viewer"
    analyst = "analyst"
    admin = "admin"

    def may(self, wanted: Role) -> bool:
        """Whether the role is `wanted`, or may more."""
        return list(Role).index(self) >= list(Role).index(wanted)


class EngineName(StrEnum):
    """Where stages run."""

    local = "local"
    ray = "ray"


@dataclass(frozen=True)
class Engine:
    """Where stages run: in this process, or on a Ray cluster, whose workers get so many CPUs and GPUs each."""

    name: EngineName = EngineName.local
    address: str | None = None
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0


@dataclass(frozen=True)
class Peaks:
    """How detections are taken from a heatmap; docs/evaluation.md tells where the defaults come from.

    radius_um: least distance between two peaks, microns. smoothing_um: standard deviation of the
    Gaussian, microns; 0 for none. min_probability: the lowest peak.
    """

    radius_um: float = 187.0
    smoothing_um: float = 0.0
    min_probability: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.radius_um < math.inf:
            raise HistolakeError(f"radius of detections, {self.radius_um:g} microns: must be above 0")
        if not 0 <= self.smoothing_um < math.inf:
            raise HistolakeError(f"smoothing of heatmaps, {self.smoothing_um:g} microns: must be 0 or above")
        if not 0 <= self.min_probability <= 1:
            raise HistolakeError(f"lowest probability of detections, {self.min_probability:g}: must be from 0 to 1")

    @property
    def parameters(self) -> dict[str, float]:
        """The values for SQL; floats, so that 187 and 187.0 are one identity."""
        return {name: float(value) for name, value in asdict(self).items()}
