"""How much a split by patch flatters, on mosaics of real tissue, each of another stain: `python bench/protocols.py`.

Needs ../shared/data/pcam and ../shared/tools/mosaic.py; takes some minutes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import report
from mosaics import TILING, build, histolake

from lake import connect
from lake.sql_files import query

SETS = (  # folder, PatchCamelyon's file, mosaics with tumor, without, cells on an edge, number of the first
    ("train", "train", 11, 6, 28, 1),
    ("test", "valid", 4, 3, 24, 101),
)
VALIDATION = ("tumor_009", "tumor_010", "tumor_011", "normal_005", "normal_006")  # of the folder train
STAIN = 0.2
NAMES = ("auc", "balanced_accuracy", "accuracy", "brier", "ece")


def main() -> None:
    """Build the lake, train by both protocols, and write docs/evaluation.md."""
    if not (report.SHARED / "data/pcam").is_dir():
        sys.exit(f"{report.SHARED}/data/pcam: the real patches are not here; without them there is nothing to measure")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workflow(folder)
        with connect(folder / "lake", udfs=()) as con:
            [(model_id,)] = con.execute("select value from settings where name = 'champion'").fetchall()
            rows = con.execute(query("app/protocols"), {"model_id": model_id}).pl().filter(split="test").to_dicts()
    measured = {row["name"]: row for row in rows if row["name"] in NAMES}
    results = {
        "machine": report.machine(),
        "stain": STAIN,
        "metrics": {
            name: {key: measured[name][key] for key in measured[name] if key not in ("split", "name")} for name in NAMES
        },
    }
    columns = ("test patches", "by slide", "patches drawn at random", "difference")
    table = report.grid(columns, [line(name, measured[name]) for name in NAMES])
    words = f"{table}\n\n95 % intervals by bootstrap over slides. {results['machine']}."
    report.write("protocols", results, "evaluation.md", {"protocols": words})


def line(name: str, row: dict[str, float]) -> tuple[str, ...]:
    """A row of the table."""
    shown = [
        report.number({"value": row[side], "low": row[f"{side}_low"], "high": row[f"{side}_high"]})
        for side in ("by_slide", "patch_random")
    ]
    return (name.replace("_", " "), *shown, f"{row['difference']:+.3f}")


def workflow(folder: Path) -> None:
    """Mosaics, and the commands that a person would type."""
    lines = ["slide_id,split"]
    for name, source, tumor, normal, edge, first in SETS:
        patches = report.SHARED / f"data/pcam/{source}.parquet"
        options = {"tumor": tumor, "normal": normal, "grid": edge, "first": first, "seed": first}
        build(folder / name, report.SHARED / "tools/mosaic.py", patches, STAIN, **options)
        slides = [path.stem for path in sorted((folder / name).glob("*.tif"))]
        lines += [f"{slide},{'validation' if slide in VALIDATION else name}" for slide in slides]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    annotations = [word for name, *_ in SETS for word in ("--annotations", f"{name}/*.xml")]
    histolake(folder, "ingest", *(f"{name}/*.tif" for name, *_ in SETS), *annotations, "--manifest", "manifest.csv")
    histolake(folder, "run", *TILING, "--encoder", "efficientnet_lite0")
    for protocol in ("by_slide", "patch_random"):
        model_id = json.loads(histolake(folder, "train", "--protocol", protocol, "--json"))["model_id"]
        histolake(folder, "predict", "--model", model_id)
        histolake(folder, "evaluate", "--model", model_id)


if __name__ == "__main__":
    main()
