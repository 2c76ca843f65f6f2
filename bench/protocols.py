"""How much a split by patch flatters, on mosaics of real tissue, each of another stain: `python bench/protocols.py`.

Needs ../shared/data/pcam and ../shared/tools/mosaic.py; takes some minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import report

from lake import connect
from lake.sql_files import query

SETS = (  # folder, split, PatchCamelyon's file, mosaics with tumor, without, cells on an edge, number of the first
    ("train", "train", "train", 8, 4, 28, 1),
    ("validation", "validation", "train", 3, 2, 28, 51),
    ("test", "test", "valid", 4, 3, 24, 101),
)
STAIN = 0.2
TILING = ("--patch-px", "96", "--mpp", "0.972", "--min-tissue", "0.05", "--encoder", "efficientnet_lite0")
NAMES = ("auc", "balanced_accuracy", "accuracy", "brier", "ece")


def main() -> None:
    """Build the lake, train by both protocols, and write docs/evaluation.md."""
    if not (report.SHARED / "data/pcam").is_dir():
        sys.exit(f"{report.SHARED}/data/pcam: the real patches are not here; without them there is nothing to measure")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workflow(folder)
        with connect(folder / "L", udfs=()) as con:
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
    columns = ("test patches", "by slide", "patches drawn at random", "flattered by")
    table = report.grid(columns, [line(name, measured[name]) for name in NAMES])
    words = f"{table}\n\n95 % intervals by bootstrap over slides. {results['machine']}."
    report.write("protocols", "protocols.py", results, "evaluation.md", {"protocols": words})


def line(name: str, row: dict[str, float]) -> tuple[str, ...]:
    """A row of the table."""
    shown = [
        f"{row[side]:.3f} ({row[f'{side}_low']:.3f} to {row[f'{side}_high']:.3f})"
        for side in ("by_slide", "patch_random")
    ]
    return (name.replace("_", " "), *shown, f"{row['difference']:+.3f}")


def workflow(folder: Path) -> None:
    """Mosaics, and the commands that a person would type."""
    lines = ["slide_id,split"]
    for name, split, source, tumor, normal, edge, first in SETS:
        mosaics(folder / name, source, tumor, normal, edge, first)
        lines += [f"{path.stem},{split}" for path in sorted((folder / name).glob("*.tif"))]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    annotations = [word for name, *_ in SETS for word in ("--annotations", f"{name}/*.xml")]
    histolake(folder, "ingest", *(f"{name}/*.tif" for name, *_ in SETS), *annotations, "--manifest", "manifest.csv")
    histolake(folder, "run", *TILING)
    for protocol in ("by_slide", "patch_random"):
        trained = histolake(folder, "train", "--protocol", protocol, "--json")
        model_id = trained.partition('"model_id": "')[2].partition('"')[0]
        histolake(folder, "predict", "--model", model_id)
        histolake(folder, "evaluate", "--model", model_id)


def mosaics(out: Path, source: str, tumor: int, normal: int, edge: int, first: int) -> None:
    """Slides of real patches, each with a stain of its own."""
    options = {"tumor": tumor, "normal": normal, "grid": edge, "first": first, "stain": STAIN, "seed": first}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    tool, patches = report.SHARED / "tools/mosaic.py", report.SHARED / f"data/pcam/{source}.parquet"
    subprocess.run([sys.executable, tool, "--patches", patches, "--out", out, *words], check=True)  # noqa: S603


def histolake(folder: Path, *words: str) -> str:
    """Run a command in `folder`; returns its output."""
    command = [sys.executable, "-m", "lake", *words, "--lake", "L"]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout


if __name__ == "__main__":
    main()
