"""The encoders and heads through the whole pipeline, on slides: `make bench-accuracy` runs it after bench/accuracy.py.

Slides are mosaics of real patches (../shared/tools/mosaic.py): training on those of train.parquet, test on those of
valid.parquet. Writes bench/mosaics.json, and the table of docs/accuracy.md between its markers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import report

STAINS = (0.0, 0.2)  # spread of the stain of each slide
COMBINATIONS = (
    ("efficientnet_lite0", "logistic"),
    ("efficientnet_lite0_stages", "logistic"),
    ("efficientnet_lite0_stages", "mlp"),
)
TILING = ("--patch-px", "96", "--mpp", "0.972", "--min-tissue", "0.05")


def main() -> None:
    """Measure every combination on plain and on stained slides, and write the result and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=Path, default=report.SHARED / "data/pcam", help="folder of the patches")
    parser.add_argument("--tool", type=Path, default=report.SHARED / "tools/mosaic.py", help="the builder of slides")
    given = parser.parse_args()
    for path in (given.tool, given.patches / "train.parquet", given.patches / "valid.parquet"):
        if not path.is_file():
            sys.exit(f"{path}: not there; say where with --patches and --tool")
    rows = []
    for stain in STAINS:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(Path(folder), given.tool, given.patches, stain)
    results = {"measured": report.machine(), "rows": rows}
    report.write("mosaics", results, "accuracy.md", {"mosaics": table(rows)})


def measure(folder: Path, tool: Path, patches: Path, stain: float) -> list[dict[str, Any]]:
    """Test metrics of every combination on one set of slides."""
    build(folder / "train", tool, patches / "train.parquet", stain, tumor=8, normal=4)
    build(folder / "test", tool, patches / "valid.parquet", stain, tumor=3, normal=1, grid=24, first=101, seed=1)
    slides = [(path.stem, part) for part in ("train", "test") for path in sorted((folder / part).glob("*.tif"))]
    (folder / "manifest.csv").write_text("\n".join(["slide_id,split", *(",".join(row) for row in slides)]))
    annotations = ("--annotations", "train/*.xml", "--annotations", "test/*.xml", "--manifest", "manifest.csv")
    histolake(folder, "ingest", "train/*.tif", "test/*.tif", *annotations)
    rows: list[dict[str, Any]] = []
    for encoder, head in COMBINATIONS:
        print(f"stain {stain:g}: {encoder}, {head}", flush=True)
        histolake(folder, "run", *TILING, "--encoder", encoder)
        histolake(folder, "train", "--encoder", encoder, "--head", head)
        histolake(folder, "predict")
        found = json.loads(histolake(folder, "evaluate", "--json"))["patch"]["test"]
        measured = {name: found[name] for name in ("patches", "auc", "balanced_accuracy")}
        rows.append({"stain": stain, "encoder": encoder, "head": head, **measured})
    return rows


def build(out: Path, tool: Path, patches: Path, stain: float, **options: int) -> None:
    """Make slides out of patches."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    paths = ("--patches", str(patches), "--out", str(out))
    command = [sys.executable, str(tool), *paths, "--stain", str(stain), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def histolake(folder: Path, *words: str) -> str:
    """Run a command on the lake in `folder`; returns what it printed."""
    command = [str(Path(sys.executable).with_name("histolake")), *words, "--lake", "lake"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout


def table(rows: list[dict[str, Any]]) -> str:
    """What was measured, a line each."""
    lines = []
    for row in rows:
        slides = f"stains shifted by {row['stain']:g}" if row["stain"] else "as stained"
        numbers = (report.number(row[name]) for name in ("auc", "balanced_accuracy"))
        lines.append((slides, f"`{row['encoder']}`", row["head"], *numbers))
    return report.grid(("slides", "encoder", "head", "AUC", "balanced accuracy"), lines)


if __name__ == "__main__":
    main()
