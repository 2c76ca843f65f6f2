"""Registers slides and annotations: finds the files, lets SQL decide what they mean."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from lake import session, store
from lake.compute import reason
from lake.pipeline import Summary, run_stage
from lake.progress import Progress
from lake.sql_files import query, stages
from lake.worker import Executor, local
from udfs.addresses import SCHEMES, file_name, is_address
from udfs.annotations import ENDINGS as ANNOTATION_ENDINGS
from udfs.errors import AnnotationError, HistolakeError, MissingError
from udfs.remote import one_a_series, store_of

SLIDE_ENDINGS = {".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu"}
MANIFEST_COLUMNS = ("slide_id", "path", "patient_id", "split", "label", "mpp")
SPLITS = ("train", "validation", "test")
TRAIN_FRACTION, VALIDATION_FRACTION = 0.6, 0.2  # of patients, where no split is given


@dataclass(frozen=True)
class Sources:
    """What to register: patterns of files or folders, and lists of coordinates."""

    slides: Sequence[str] = ()
    annotations: Sequence[str] = ()
    coords_tumor: Sequence[Path] = ()
    coords_normal: Sequence[Path] = ()
    manifest: Path | None = None
    split: str | None = None


def ingest(
    root: Path,
    sources: Sources,
    *,
    run_id: str,
    retry_failed: bool = False,
    executor: Executor = local,
    progress: Progress | None = None,
) -> list[Summary]:
    """Run the stages `slides` and `annotations` on the files of `sources`.

    Raises HistolakeError, before anything is written, when a pattern matches nothing, two files have
    one slide_id, or a manifest or coordinate list has other columns than it should.
    """
    if sources.split not in (None, *SPLITS):
        raise HistolakeError(f"--split {sources.split}: must be one of {', '.join(SPLITS)}")
    manifest = _manifest(sources.manifest)
    listed = [row["path"] for row in manifest.to_pylist() if row["path"]]
    at_servers = [pattern for pattern in sources.slides if "://" in pattern]
    at_hand = [pattern for pattern in sources.slides if "://" not in pattern]
    paths = [*map(str, find(at_hand, SLIDE_ENDINGS, "slide")), *find_addresses(at_servers), *listed]
    found = pa.table({"path": pa.array(sorted(set(paths)), pa.string())})
    drawn = sorted(set(find(sources.annotations, ANNOTATION_ENDINGS, "annotation file")))
    if not paths and not drawn and not sources.coords_tumor and not sources.coords_normal:
        raise HistolakeError(
            "nothing to ingest: name slides, --annotations, --coords-tumor, --coords-normal or --manifest"
        )
    with duckdb.connect() as con:
        coordinates = _coordinates(con, sources)
    store.create(root)
    with session.connect(root) as con:
        slide_files = _slide_files(con, found, manifest, sources.split)
        annotation_files = _annotation_files(con, drawn, coordinates)
    parameters = {
        "seed": store.setting(root, "seed"),
        "train_fraction": TRAIN_FRACTION,
        "validation_fraction": VALIDATION_FRACTION,
    }
    common = {"run_id": run_id, "retry_failed": retry_failed, "executor": executor, "progress": progress}
    work = [
        ("slides", {"slide_files": slide_files}, parameters),
        ("annotations", {"annotation_files": annotation_files, "coordinates": coordinates}, {}),
    ]
    known = stages()
    return [
        run_stage(root, known[name], values, inputs=inputs, **common)  # type: ignore[arg-type]
        for name, inputs, values in work
    ]


def find(patterns: Iterable[str], endings: set[str], kind: str) -> list[Path]:
    """The files that the patterns name: files, folders (searched for `endings`) and globs.

    Of a folder with several DICOM files, which are one slide, the first stands for all.
    Raises HistolakeError naming the pattern that matches nothing.
    """
    found: list[Path] = []
    for pattern in patterns:
        is_name = os.path.lexists(pattern)  # of a broken link, too: it fails as a slide does, and stops no other
        matches = [Path(pattern)] if is_name else [Path(m) for m in sorted(glob.glob(pattern, recursive=True))]
        files = [file for match in matches for file in _expand(match, endings)]
        if not files:
            wanted = ", ".join(sorted(endings))
            raise HistolakeError(f"{pattern}: no {kind} matches; quote patterns, and look for files ending in {wanted}")
        found += files
    return [path.absolute() for path in found]


def find_addresses(patterns: Iterable[str]) -> list[str]:
    """The slides at addresses: objects, folders and globs of buckets, single slides on web servers.

    Raises HistolakeError naming the pattern that matches nothing, cannot be looked up, or may not be kept in tables.
    """
    found: list[str] = []
    for pattern in patterns:
        if not is_address(pattern):
            raise HistolakeError(f"{pattern}: slides are files, or at {', '.join(SCHEMES)}; copy these to one of them")
        matches = store_of(pattern).find(pattern, SLIDE_ENDINGS)
        if not matches:
            wanted = ", ".join(sorted(SLIDE_ENDINGS))
            raise HistolakeError(f"{pattern}: no slide matches; quote patterns, and look for files ending in {wanted}")
        found += matches
    return found


def _expand(path: Path, endings: set[str]) -> list[Path]:
    if not path.is_dir():
        return [path]
    lakes = [log.parents[1] for log in path.rglob("runs/_delta_log")]  # whose own files are JSON, too
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in endings and not file.is_dir() and not any(map(file.is_relative_to, lakes))
    )
    if not files and path.suffix.lower() in endings:  # it was meant for a file
        return [path]
    return one_a_series(files)


def _manifest(path: Path | None) -> pa.Table:
    """The manifest's rows, all columns present; slide paths are relative to the manifest's folder."""
    schema = dict.fromkeys(MANIFEST_COLUMNS[:-1], pl.String) | {"mpp": pl.Float64}
    if path is None:
        return pl.DataFrame(schema=schema).to_arrow()
    try:
        rows = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HistolakeError(f"{path}: the manifest cannot be read: {error}") from None
    unknown = set(rows.columns) - set(MANIFEST_COLUMNS)
    if unknown or not {"slide_id", "path"} & set(rows.columns):
        has = ", ".join(rows.columns)
        raise HistolakeError(
            f"{path}: a manifest has slide_id or path, and any of {', '.join(MANIFEST_COLUMNS)}; this one has {has}"
        )
    rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in schema if name not in rows.columns)
    try:
        rows = rows.select(
            pl.col(name).str.strip_chars().replace("", None).cast(type_) for name, type_ in schema.items()
        )
    except pl.exceptions.PolarsError as error:
        raise HistolakeError(f"{path}: mpp must be a number, microns per pixel: {error}") from None
    wrong = rows.filter(~pl.col("split").is_in(SPLITS))["split"].to_list()
    if wrong:
        raise HistolakeError(f"{path}: split {wrong[0]!r} must be one of {', '.join(SPLITS)}")
    folder = path.absolute().parent

    def placed(name: str) -> str:
        return find_addresses([name])[0] if "://" in name else str((folder / name).absolute())

    return rows.with_columns(pl.col("path").map_elements(placed, return_dtype=pl.String)).to_arrow()


def _slide_files(con: duckdb.DuckDBPyConnection, found: pa.Table, manifest: pa.Table, split: str | None) -> pa.Table:
    paths = found["path"].to_pylist()
    stems = [Path(file_name(path) if is_address(path) else path).stem for path in paths]
    con.register("found", found.append_column("stem", pa.array(stems, pa.string())))
    con.register("manifest", manifest)
    rows = con.execute(query("ingest/slide_files"), {"split": split}).to_arrow_table()
    con.register("slide_files", rows)
    for slide_id, path, other in con.execute(query("ingest/rivals")).fetchall():
        if _exists(other):  # else the slide was moved
            raise HistolakeError(
                f"two slides have the id {slide_id!r}: {path} and {other}; "
                "rename one, or give each its slide_id in a manifest"
            )
    named = set(rows["slide_id"].to_pylist())
    lost = [row["slide_id"] for row in manifest.to_pylist() if row["path"] is None and row["slide_id"] not in named]
    if lost:
        raise HistolakeError(f"the manifest names slide {lost[0]!r}, but no slide file of that name was given")
    return rows


def _exists(path: str) -> bool:
    if not is_address(path):
        return Path(path).exists()
    try:
        return bool(store_of(path).files(path))
    except MissingError:
        return False


def _coordinates(con: duckdb.DuckDBPyConnection, sources: Sources) -> pa.Table:
    """The centres of both lists; without lists, none."""
    lists = {"tumor": sources.coords_tumor, "normal": sources.coords_normal}
    for file in [*sources.coords_tumor, *sources.coords_normal]:
        if not file.is_file():
            raise AnnotationError(f"{file}: no such coordinate list")
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "nothing.csv"
        nothing.touch()
        values = {name: [str(file) for file in files] or [str(nothing)] for name, files in lists.items()}
        try:
            return con.execute(query("ingest/coordinates"), values).to_arrow_table()
        except duckdb.Error as error:
            files = ", ".join(str(file) for group in lists.values() for file in group)
            raise AnnotationError(f"{files}: rows must be slide,x,y without a header: {reason(error)}") from None


def _annotation_files(con: duckdb.DuckDBPyConnection, files: Sequence[Path], coordinates: pa.Table) -> pa.Table:
    """The files beside the slides that they are named like. Raises AnnotationError for two of one name and slide."""
    stems = [Path(file.stem) for file in files]
    names = {
        "path": [str(file) for file in files],
        "stem": [stem.name for stem in stems],
        "slide_stem": [stem.stem if stem.suffix.lower() in SLIDE_ENDINGS else stem.name for stem in stems],
    }
    con.register("coordinates", coordinates)
    con.register("found_annotations", pa.table({name: pa.array(values, pa.string()) for name, values in names.items()}))
    rows = con.execute(query("ingest/annotation_files")).to_arrow_table()
    con.register("annotation_files", rows)
    for source, path, other in con.execute(query("ingest/annotation_rivals")).fetchall():
        raise AnnotationError(f"two annotation files are called {source!r}: {path} and {other}; rename one")
    return rows
