"""What is known of a slide file without reading its pixels: size, resolution, vendor."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa

from udfs.errors import SlideError
from udfs.files import slide_files
from udfs.registry import Column, udf
from udfs.slide import metadata
from udfs.slide_cache import local

PLAUSIBLE_MPP = (0.05, 100.0)  # microns per pixel that a scanned slide's level 0 can have

PROPERTIES = pa.struct(
    [
        ("vendor", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("level_count", pa.int32()),
        ("mpp_x", pa.float64()),
        ("mpp_y", pa.float64()),
        ("objective_power", pa.float64()),
        ("bounds_x", pa.int64()),
        ("bounds_y", pa.int64()),
        ("bounds_width", pa.int64()),
        ("bounds_height", pa.int64()),
        ("bytes", pa.int64()),
        ("error", pa.string()),
    ]
)


@udf(
    "VARCHAR",
    returns="STRUCT(vendor VARCHAR, width BIGINT, height BIGINT, level_count INTEGER, mpp_x DOUBLE, mpp_y DOUBLE, "
    "objective_power DOUBLE, bounds_x BIGINT, bounds_y BIGINT, bounds_width BIGINT, bounds_height BIGINT, "
    "bytes BIGINT, error VARCHAR)",
)
def slide_properties(path: Column) -> pa.Array:
    """Size, resolution (microns per pixel), vendor and scanned bounds of each slide.

    Lengths in level-0 pixels. Only these properties are read: names, dates and comments, which can
    identify a patient, are not. A slide that cannot be opened, or of whose levels not even one
    pixel can be decoded, has an error and NULL elsewhere. Resolutions that no scanner has are NULL.
    NULL in, NULL out.
    """
    return pa.array([None if one is None else _properties(one) for one in path.to_pylist()], PROPERTIES)


def _properties(path: str) -> dict[str, object]:
    try:
        own = local(path)
        found = metadata(path)
        size = sum(file.stat().st_size for file in slide_files(Path(own.file)))
    except SlideError as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{path}: {error.strerror}; was a file of the slide moved?"}
    return {
        "vendor": found.get("openslide.vendor"),
        "width": int(found["width"]),
        "height": int(found["height"]),
        "level_count": int(found["openslide.level-count"]),
        "mpp_x": _plausible_mpp(found.get("openslide.mpp-x")),
        "mpp_y": _plausible_mpp(found.get("openslide.mpp-y")),
        "objective_power": _number(found.get("openslide.objective-power")),
        "bounds_x": _whole(found.get("openslide.bounds-x")),
        "bounds_y": _whole(found.get("openslide.bounds-y")),
        "bounds_width": _whole(found.get("openslide.bounds-width")),
        "bounds_height": _whole(found.get("openslide.bounds-height")),
        "bytes": size,
    }


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else round(number)


def _plausible_mpp(text: str | None) -> float | None:
    mpp = _number(text)
    low, high = PLAUSIBLE_MPP
    return mpp if mpp is not None and low <= mpp <= high else None
