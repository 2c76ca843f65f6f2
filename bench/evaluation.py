"""Times the evaluation, compares it with masks, and writes docs/evaluation.md: `python bench/evaluation.py`."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import polars as pl
import shapely

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import report  # noqa: E402
from lesion_slides import Slide, database  # type: ignore[import-not-found]  # noqa: E402

from lake import lesions  # noqa: E402
from lake.choices import Peaks  # noqa: E402
from lake.sql_files import query  # noqa: E402

SEEDS = range(50)
REPEATS = 3


def main() -> None:
    """Measure everything and write it down."""
    results = {
        "machine": report.machine(),
        "seconds": seconds(),
        "parity": parity(),
        "growth": growth(),
    }
    report.write("evaluation", results, "evaluation.md", tables(results))


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The marked parts of docs/evaluation.md."""
    measured, parity, growth = results["seconds"], results["parity"], results["growth"]
    rows = [(what, f"{took:.2f}") for what, took in measured.items()]
    excused = sum(count for name, count in parity.items() if name.startswith("slides that differ"))
    return {
        "seconds": f"{report.grid(('what', 'processor seconds'), rows)}\n\nBest of {REPEATS}; {results['machine']}.",
        "parity": (
            f"{parity['cases']} random cases of three slides: {parity['equal cases']} have the same counts, "
            f"sensitivities and means to 1e-9. In the others {excused} slides differ, all within the bounds: "
            f"{parity['slides that differ by detection']} by a detection near an outline, "
            f"{parity['slides that differ by itc']} by a lesion near 275 microns, "
            f"{parity['slides that differ by topology']} by lesions about to touch or a hole about to close."
        ),
        "growth": (
            f"Over {growth['shapes']} random shapes the mask's region differs from the outline grown by 37.5 microns "
            f"in {growth['grown by 37.5']:.1%} of its area, and from one grown by half a mask pixel (3.9 microns) "
            f"less in {growth['grown by 33.6']:.1%}; the mask's major axes are {growth['axis um']:.0f} microns "
            "shorter on average."
        ),
    }


# -- time


def seconds() -> dict[str, float]:
    """What takes how long, s."""
    slide = [large_slide()]
    con = database(slide)
    many = many_findings()
    return {
        "detections on a slide of 10,000 patches": best(lambda: detect(10_000, 0)),
        "the same, smoothed by 100 microns": best(lambda: detect(10_000, 100)),
        "detections on a slide of 100,000 patches": best(lambda: detect(100_000, 0)),
        "the same, all equally probable (the slowest case)": best(lambda: detect(100_000, 0, heat=0)),
        "FROC of a slide with 100 lesions and 10,000 detections": best(
            lambda: lesions.froc(con, lesions.findings(con, {"model_id": "m"}, patch_set="p"))
        ),
        "FROC of 130 slides, 130,000 false positives": best(lambda: lesions.froc(con, many)),
        "its intervals, 1,000 draws": best(lambda: lesions.intervals(many)),
    }


def best(work: Callable[[], object]) -> float:
    """The least processor seconds of a few runs: what else the machine does, does not count."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def detect(patches: int, smoothing_um: float, heat: float = 1) -> None:
    """Peaks of a heatmap of noise and a few hot regions, patches 112 microns apart; of a level one without heat."""
    side = int(np.ceil(patches**0.5))
    row, column = np.divmod(np.arange(patches), side)
    rng = np.random.default_rng(0)
    near = np.exp(
        -(((row[:, None] - rng.integers(side, size=9)) / 8) ** 2)
        - ((column[:, None] - rng.integers(side, size=9)) / 8) ** 2
    )
    probability = np.clip(0.5 + heat * (0.3 * rng.random(patches) + near.max(axis=1) - 0.5), 0, 1)
    key = {
        "slide_id": "s",
        "patch_set": "p",
        "model_id": "m",
        "fingerprint": "f",
        "bucket": 0,
        "mpp_x": 0.25,
        "mpp_y": 0.25,
    }
    heatmap = pl.DataFrame({"x": column * 448.0, "y": row * 448.0, "probability": probability})
    with duckdb.connect() as con:
        con.register(
            "heatmaps", heatmap.with_columns(**{name: pl.lit(value) for name, value in key.items()}).to_arrow()
        )
        con.execute(query("detections"), Peaks(smoothing_um=smoothing_um).parameters).fetchall()


def large_slide() -> Slide:
    """100 lesions with outlines of 400 corners, and 10,000 detections."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    shapes = []
    for number in range(100):
        radius = rng.uniform(300, 1500) * (1 + 0.2 * np.sin(rng.integers(3, 30) * angles))
        centre = np.array(divmod(number, 10)) * 8000 + 4000
        shapes.append(shapely.Polygon(np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None] + centre))
    places = rng.uniform(0, 80_000, (10_000, 2)).tolist()
    return Slide(
        "s", shapely.union_all(shapes), [(chance, *at) for chance, at in zip(rng.random(10_000), places, strict=True)]
    )


def many_findings() -> pl.DataFrame:
    """130 slides with 300 lesions or so, and 1,000 false positives each."""
    rng = np.random.default_rng(0)
    rows: list[tuple[str, str, float | None]] = []
    for number in range(130):
        slide = f"s{number}"
        found = [
            ("lesion", chance if chance > 0.2 else None) for chance in rng.random(number % 2 * rng.integers(1, 10))
        ]
        rows += [(slide, "slide", None), *((slide, *each) for each in found)]
        rows += [(slide, "false positive", chance) for chance in rng.random(1000) ** 20]
    schema = {"slide_id": pl.String, "kind": pl.String, "probability": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row").with_columns(split=pl.lit("test"))


# -- masks


def parity() -> dict[str, int]:
    """What the parity test counts, on more cases."""
    test = load(ROOT / "tests/lake/test_froc_parity.py")
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen.update(test.count_cases(seed))
    return dict(sorted(seen.items()))


def growth() -> dict[str, float]:
    """How far the mask's regions are from outlines grown by 37.5 microns, and by half a mask pixel less."""
    test = load(ROOT / "tests/lake/test_froc_parity.py")
    fine = (np.arange(test.SIDE * 8) + 0.5) * test.PIXEL / 8
    grid = np.meshgrid(fine, fine)
    off: Counter[str] = Counter()
    area, shorter = 0, []
    slides = [slide for seed in range(5) for slide in test.cases(seed) if slide.area.area]
    slides = [slide for slide in slides if len(test.lesions_of(slide)) == 1 and test.is_stable(slide.area)]
    for slide in slides:
        mask = test.by_mask(slide)
        is_inside = np.kron(mask.labels > 0, np.ones((8, 8), bool))
        area += is_inside.sum()
        for name, by in (("grown by 37.5", test.REACH), ("grown by 33.6", test.REACH - 0.5)):
            outline = shapely.Polygon(shapely.buffer(slide.area, by * test.PIXEL, quad_segs=16).exterior)
            off[name] += (shapely.contains_xy(outline, *grid) != is_inside).sum()
        (lesion,) = test.lesions_of(slide)
        shorter.append(lesion["major_axis_um"] - mask.axes[0] * test.MPP * test.PIXEL)
    return {
        "shapes": len(slides),
        **{name: count / area for name, count in off.items()},
        "axis um": float(np.mean(shorter)),
    }


def load(path: Path) -> ModuleType:
    """The Python file at `path`, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
