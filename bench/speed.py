"""Times histolake beside what a user would pick instead: `python bench/speed.py [PART …]`.

Every part is a module `speed_PART.py` with a function `measure(folder)`, which gives lines of the table. Figures are
kept in bench/results.json, each part's with the machine that it was measured on, and written into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import headline
import race
import report

PARTS = ("crop", "embed", "slide", "train", "predict", "growth", "start")
RESULTS = report.ROOT / "bench" / "results.json"


def main() -> None:
    """Measure the parts that are asked for, all by default, and write them down one by one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--folder", type=Path, help="keep what is generated here, or use what is here")
    asked = parser.parse_args()
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    with contextlib.ExitStack() as stack:
        folder = asked.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="histolake-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        for part in asked.parts or PARTS:
            machine = f"{report.machine()}, load {os.getloadavg()[0]:.1f} before"
            figures = importlib.import_module(f"speed_{part}").measure(folder)
            keep(part, {"machine": machine, "figures": [asdict(each) for each in figures]})


def keep(part: str, result: Mapping[str, Any]) -> None:
    """Put a part's figures into bench/results.json and docs/benchmarks.md, whose first table is of several parts."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[part] = result
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    table = report.grid(race.COLUMNS, [race.row(each) for each in result["figures"]])
    parts = {part: f"{table}\n\n{result['machine']}.", "headline": headline.table(results)}
    report.mark("speed", "benchmarks.md", parts)


if __name__ == "__main__":
    main()
