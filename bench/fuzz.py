"""Fuzzes all that reads what strangers wrote, by atheris: into docs/guarantees.md and bench/fuzz.json.

`python bench/fuzz.py [--seconds N] [TARGET …]`: N seconds each, in a process of its own. What breaks one is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import report
from fuzz_targets import TARGETS

CHILD = Path(__file__).with_name("fuzz_child.py")
START_S = 300  # until a process has imported what it fuzzes
SHOWN = 2_000  # characters of an input that breaks a target
TESTS = "`tests/test_fuzz.py`"


def main() -> None:
    """Fuzz the targets, write the figures; exit status 1 when one broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    asked = parser.parse_args()
    unknown = set(asked.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    kept = report.ROOT / "bench/fuzz.json"
    figures = json.loads(kept.read_text(encoding="utf-8"))["targets"] if kept.exists() else {}
    for name in asked.targets or TARGETS:
        figures[name] = _fuzzed(name, asked.seconds)
        print(f"{name}: {figures[name]['inputs']:,} inputs, {figures[name]['broken']} broken")
    results = {"machine": report.machine(), "atheris": version("atheris"), "targets": figures}
    report.write("fuzz", results, "guarantees.md", {"fuzz": _table(results)})
    if any(each["broken"] for each in figures.values()):
        sys.exit(1)


def _fuzzed(name: str, seconds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="histolake-fuzz-") as folder:
        done = subprocess.run(  # noqa: S603 (our own words)
            [sys.executable, str(CHILD), name, str(seconds), folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + START_S,
            cwd=report.ROOT,
            env={**os.environ, "PYTHONPATH": str(report.ROOT), "TMPDIR": folder},
            check=False,
        )
        broken = [path for path in sorted(Path(folder).iterdir()) if re.match("crash-|timeout-|oom-", path.name)]
        for path in broken:
            print(f"{name}: {path.name}: {path.read_bytes()[:SHOWN]!r}\n{done.stdout[-SHOWN:]}", file=sys.stderr)
        counted = re.findall(r"^(?:stat::number_of_executed_units:\s*|#)(\d+)", done.stdout, re.MULTILINE)
        if done.returncode and not broken:
            sys.exit(f"{name}: was not fuzzed:\n{done.stdout[-SHOWN:]}")
        return {"inputs": int(counted[-1]) if counted else 0, "seconds": seconds, "broken": len(broken)}


def _table(results: dict[str, Any]) -> str:
    rows = []
    for name, target in TARGETS.items():
        if name in results["targets"]:
            measured = results["targets"][name]
            figure = f"{measured['inputs']:,} inputs in {measured['seconds']} s, {measured['broken']} broken"
            about = f"{target.about[0].upper()}{target.about[1:]}"
            rows.append((f"{about}: an answer, or one sentence that says what is wrong", TESTS, figure))
    total = sum(each["inputs"] for each in results["targets"].values())
    said = f"{total:,} inputs by atheris {results['atheris']}, from sound ones on. {results['machine']}."
    return f"{report.grid(('Promise', 'Test', 'Figure'), rows)}\n\n{said}"


if __name__ == "__main__":
    main()
