"""Who may import whom, what starting costs, and what must not be in the repository."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from support import ROOT, run

from lake import sql_files
from lake.tables import APART, TABLES

LAYERS = ("udfs", "lake", "viewer", "app")  # each imports itself and what stands before it
LAZY = (
    *("onnxruntime", "onnx", "mlflow", "sklearn", "torch", "matplotlib", "streamlit"),
    *("numpy", "polars", "pyarrow", "duckdb", "deltalake", "openslide", "shapely"),
)
PEERS = {"torch", "tiffslide", "fastslide", "ratiopath"}  # not locked: the Makefile installs them
INPUTS = {  # relations that Python hands to a query: files found, units planned, patches chosen
    "abouts",
    "annotation_files",
    "annotations_before",
    "chosen_patches",
    "coordinates",
    "findings",
    "froc_curve",
    "evidence_before",
    "found",
    "found_annotations",
    "labels_after",
    "labels_before",
    "manifest",
    "places",
    "planned",
    "slide_files",
    "snapshot",
    "table_columns",
}
LARGEST = 200_000  # bytes of a file
LARGE = {
    "requirements.lock",  # a hash for every file of every dependency
    "deploy/requirements.lock",  # the same, of those that the image has
    "viewer/component/assets/vendor/openseadragon.min.js",
}


def sources(layer: str) -> list[Path]:
    return [ROOT / "app.py"] if layer == "app" else sorted((ROOT / layer).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_itself_and_those_below(layer: str) -> None:
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | {"tests", "bench", "support"}
    files = sources(layer)
    assert files
    for path in files:
        assert not imported(path) & above, path


owners_of_packages = cache(packages_distributions)


def distributions(requirements: list[str]) -> set[str]:
    """The normalized names of what requirements ask for."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", each)[0]).lower() for each in requirements}


@pytest.mark.parametrize("folders", [("lake", "udfs", "viewer", "app"), ("tests", "bench", "deploy", "docs")])
def test_what_is_imported_is_declared(folders: tuple[str, ...]) -> None:
    """What only comes along with another package may be gone with that one's next version."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = distributions(sum(told["project"]["optional-dependencies"].values(), told["project"]["dependencies"]))
    if "tests" in folders:
        declared |= distributions(told["dependency-groups"]["dev"]) | PEERS
    owners = owners_of_packages()
    for path in (path for folder in folders for path in sources(folder)):
        for name in imported(path) - set(sys.stdlib_module_names):
            found = distributions(owners.get(name, []))
            assert not found or found & (declared | {"histolake"}), f"{path} imports {name}, of {found}"


def test_sql_names_only_tables_views_and_what_python_hands_it() -> None:
    views = {path.stem for path in sql_files.view_files()}
    for path in sorted(sql_files.SQL.rglob("*.sql")):
        text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
        own = set(re.findall(r"\b([a-z_]\w*) as (?:materialized )?\(", text))
        own |= set(re.findall(r"\bview ([a-z_]\w*) as", text))
        functions = {"unnest", "read_csv", "duckdb_columns", "duckdb_functions"}
        unknown = sql_files.tables_named(text) - own - functions - views - {*TABLES, *APART} - INPUTS
        assert not unknown, path


def test_the_command_line_starts_without_heavy_libraries() -> None:
    code = f"import sys, lake, lake.cli; print(*(name for name in {LAZY} if name in sys.modules))"
    done = run([sys.executable, "-c", code], check=True)
    assert done.stdout.split() == []


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = run(["git", "ls-files", "-z"], check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_expression_of_polars_calls_python() -> None:
    """Its threads would wait for Python's lock while who holds that waits for them; see docs/engine-notes.md."""
    calls = re.compile(r"\.map_(elements|batches|rows|groups)\(")
    files = [path for layer in LAYERS for path in sources(layer)]
    assert len(files) > 200
    assert [path.name for path in files if calls.search(path.read_text(encoding="utf-8"))] == []


def test_no_file_is_large() -> None:
    large = {str(path.relative_to(ROOT)) for path in tracked() if path.stat().st_size > LARGEST}
    assert large <= LARGE


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    own = {str(ROOT), str(Path.home())} - {"/", "/root"}
    users = re.compile(r"/(?:home|Users)/\w+|\b[A-Z]:\\Users")
    for path in tracked():
        if path == Path(__file__).resolve() or path.suffix in {".png", ".onnx", ".tif"}:
            continue
        text = path.read_text(encoding="utf-8")
        assert not users.search(text), path
        assert not [folder for folder in own if folder in text], path
