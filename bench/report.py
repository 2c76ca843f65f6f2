"""What benchmarks share: where their figures go, and the machine that they are from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def machine() -> str:
    """Cores, processor, its instructions for matrices, and Python in one line."""
    names = ("duckdb", "onnxruntime", "scikit-learn")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    cores = f"{os.cpu_count()} cores, {platform.machine()}{instructions()}"
    return f"{cores}, Python {platform.python_version()}, {packages}"


def instructions() -> str:
    """Which of the instructions that networks profit from the processor has; empty where Linux does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    names = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2"}
    best = next((name for flag, name in names.items() if flag in flags), "")
    return f" with {best}" if best else ""


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *rows])


def number(measured: Mapping[str, float]) -> str:
    """A metric with its interval."""
    return f"{measured['value']:.3f} ({measured['low']:.3f} to {measured['high']:.3f})"


def write(name: str, results: Mapping[str, Any], page: str, parts: Mapping[str, str]) -> None:
    """Keep results in bench/NAME.json, and put parts of them into a page, as `mark` does."""
    (ROOT / "bench" / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    mark(name, page, parts)


def mark(name: str, page: str, parts: Mapping[str, str]) -> None:
    """Put each part between its marks, `<!-- PART: bench/NAME.py -->`, in a page of docs/.

    Raises ValueError when the page has no such marks.
    """
    path = ROOT / "docs" / page
    text = path.read_text(encoding="utf-8")
    for part, words in parts.items():
        start, end = f"<!-- {part}: bench/{name}.py -->\n", f"<!-- /{part} -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise ValueError(f"{path}: no marks for {part}")
        text = f"{before}{start}{words}\n{end}{rest.partition(end)[2]}"
    path.write_text(text, encoding="utf-8")
