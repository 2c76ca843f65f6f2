"""Runs all that tries to get out of a person's statement, and counts it by category: into docs/guarantees.md."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import report

TESTS = "tests/lake/test_workbench.py"
ESCAPES = re.compile(r"(?:test_no_statement_gets_out|test_what_would_exhaust\w+)\[(.+?)-")
SEALED, RACES = "test_the_connection_is_sealed", ("cancel", "nobody_gets", "ended_by_hand", "outlives", "at_once")


def main() -> None:
    """Run the tests, fast and slow, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", TESTS, "-q", "--timeout", "900", "-m", "", f"--junitxml={file}"]
        subprocess.run(command, cwd=report.ROOT, check=False)  # noqa: S603 (our own words)
        cases = list(ET.parse(file).getroot().iter("testcase"))  # noqa: S314 (pytest's own file)
    tried, held = Counter(map(_category, cases)), Counter(_category(case) for case in cases if not list(case))
    del tried[""]
    results = {name: {"tried": tried[name], "held": held[name]} for name in sorted(tried)}
    report.write("escapes", results, "guarantees.md", {"escapes": _table(results)})


def _category(case: ET.Element) -> str:
    name = case.get("name", "")
    if found := ESCAPES.match(name):
        return found[1]
    if name.startswith(SEALED):
        return "past the check, at the sealed connection"
    return "cancels, kills and races" if any(word in name for word in RACES) else ""


def _table(results: dict[str, dict[str, int]]) -> str:
    rows = [(name, str(each["tried"]), str(each["tried"] - each["held"])) for name, each in results.items()]
    totals = [sum(each[name] for each in results.values()) for name in ("tried", "held")]
    rows.append(("in all", str(totals[0]), str(totals[0] - totals[1])))
    return report.grid(("what was tried", "attempts", "of these got out, or did not end"), rows)


if __name__ == "__main__":
    main()
