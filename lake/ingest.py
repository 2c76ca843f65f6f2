"""Registers slides and annotations: finds the files, lets SQL decide what they mean."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from lake import creation, pseudonymize, session, store
from lake.compute import reason
from lake.manifest import SPLITS, read_manifest
from lake.pipeline import Summary, run_stage
from lake.progress import Progress
from lake.pseudonymize import Found
from lake.sql_files import query, stages
from lake.worker import Executor, local
from udfs.addresses import SCHEMES, file_name, is_address
from udfs.annotations import ENDINGS as ANNOTATION_ENDINGS
from udfs.errors import AnnotationError, HistolakeError, MissingError
from udfs.pseudonyms import true_path
from udfs.remote import one_a_series, store_of

SLIDE_ENDINGS = {".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu"}
LONGEST_ROW = 2**16  # bytes of a list of coordinates
TRAIN_FRACTION, VALIDATION_FRACTION = 0.6, 0.2  # of patients, where no split is given


@dataclass(frozen=True)
class Sources:
    """What to register: patterns of files or folders, and lists of coordinates.

    key_file: that of the pseudonyms that slides, patients and files get in the lake; None: they keep their names.
    """

    slides: Sequence[str] = ()
    annotations: Sequence[str] = ()
    coords_tumor: Sequence[Path] = ()
    coords_normal: Sequence[Path] = ()
    manifest: Path | None = None
    split: str | None = None
    key_file: Path | None = None


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
    one slide_id, or a manifest or coordinate list has other columns than it should; KeyFileError when the key
    file will not do.
    """
    if sources.split not in (None, *SPLITS):
        raise HistolakeError(f"--split {sources.split}: must be one of {', '.join(SPLITS)}")
    manifest = read_manifest(sources.manifest, lambda address: find_addresses([address])[0])
    listed = [row["path"] for row in manifest.to_pylist() if row["path"]]
    patterns = [true_path(pattern) for pattern in sources.slides]
    at_servers = [pattern for pattern in patterns if "://" in pattern]
    at_hand = [pattern for pattern in patterns if "://" not in pattern]
    paths = [*map(_text, find(at_hand, SLIDE_ENDINGS, "slide")), *find_addresses(at_servers), *listed]
    drawn = sorted(set(find(sources.annotations, ANNOTATION_ENDINGS, "annotation file")))
    if not paths and not drawn and not sources.coords_tumor and not sources.coords_normal:
        raise HistolakeError(
            "nothing to ingest: name slides, --annotations, --coords-tumor, --coords-normal or --manifest"
        )
    with duckdb.connect() as con:
        coordinates = read_coordinates(con, sources)
    creation.create(root)
    key = pseudonymize.key_file(root, sources.key_file, run_id)
    found = Found(_stems(sorted(set(paths))), manifest, _named(drawn), coordinates)
    if key is not None:
        found = pseudonymize.veiled(found, key)
    with session.connect(root) as con:
        slide_files = _slide_files(con, found, sources.split)
        annotation_files = _annotation_files(con, found)
    parameters = {
        "seed": store.setting(root, "seed"),
        "train_fraction": TRAIN_FRACTION,
        "validation_fraction": VALIDATION_FRACTION,
    }
    common = {"run_id": run_id, "retry_failed": retry_failed, "executor": executor, "progress": progress}
    work = [
        ("slides", {"slide_files": slide_files}, parameters),
        ("annotations", {"annotation_files": annotation_files, "coordinates": found.coordinates}, {}),
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


def _text(path: Path) -> str:
    """The path as a column can hold it: a name that is not UTF-8 becomes one that no file has, and fails as a file."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _stems(paths: Sequence[str]) -> pa.Table:
    """The slide files, each beside its name without the ending."""
    stems = [Path(file_name(path) if is_address(path) else path).stem for path in paths]
    return pa.table({"path": pa.array(paths, pa.string()), "stem": pa.array(stems, pa.string())})


def _slide_files(con: duckdb.DuckDBPyConnection, found: Found, split: str | None) -> pa.Table:
    con.register("found", found.slides)
    con.register("manifest", found.manifest)
    rows = con.execute(query("ingest/slide_files"), {"split": split}).to_arrow_table()
    con.register("slide_files", rows)
    given = set(found.slides["path"].to_pylist())
    for slide_id, path, other in con.execute(query("ingest/rivals")).fetchall():
        if other in given or _exists(other):  # else the slide was moved
            raise HistolakeError(
                f"two slides have the id {slide_id!r}: {path} and {other}; "
                "rename one, or give each its slide_id in a manifest"
            )
    for slide_id in con.execute(query("ingest/repeated")).fetchall():
        raise HistolakeError(f"the manifest tells of slide {slide_id[0]!r} in several rows; keep one")
    named, told = set(rows["slide_id"].to_pylist()), found.manifest.to_pylist()
    lost = [row["slide_id"] for row in told if row["path"] is None and row["slide_id"] not in named]
    if lost:
        raise HistolakeError(f"the manifest names slide {lost[0]!r}, but no slide file of that name was given")
    return rows


def _exists(path: str) -> bool:
    try:
        true = true_path(path)
        return bool(store_of(true).files(true)) if is_address(true) else os.path.exists(true)
    except MissingError:
        return False


def read_coordinates(con: duckdb.DuckDBPyConnection, sources: Sources) -> pa.Table:
    """The centres of both lists; without lists, none. Raises AnnotationError naming the list that is none."""
    lists = {"tumor": sources.coords_tumor, "normal": sources.coords_normal}
    for file in [*sources.coords_tumor, *sources.coords_normal]:
        if not os.path.isfile(file):
            raise AnnotationError(f"{file}: no such coordinate list")
        if _ends_in_a_long_line(file):
            raise AnnotationError(f"{file}: rows must be slide,x,y without a header: its last line is too long")
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "nothing.csv"
        nothing.touch()
        values = {name: [str(file) for file in files] or [str(nothing)] for name, files in lists.items()}
        try:
            rows = con.execute(query("ingest/coordinates"), values).to_arrow_table()
        except duckdb.Error as error:
            files = ", ".join(str(file) for group in lists.values() for file in group)
            raise AnnotationError(f"{files}: rows must be slide,x,y without a header: {reason(error)}") from None
    con.register("coordinates", rows)
    for source, slide_id, x, y in con.execute(query("ingest/impossible_coordinates")).fetchall():
        raise AnnotationError(f"{source}: no slide can hold the centre {slide_id},{x},{y}; mend or remove it")
    return rows


def _ends_in_a_long_line(file: Path) -> bool:
    """Whether the last line is longer than any row: DuckDB 1.5 leaves out one that its buffer does not hold."""
    try:
        with file.open("rb") as content:
            content.seek(-min(LONGEST_ROW, file.stat().st_size), os.SEEK_END)
            last = content.read().rstrip(b"\r\n")
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({error.strerror})") from None
    return len(last) + 2 >= LONGEST_ROW and b"\n" not in last


def _named(files: Sequence[Path]) -> pa.Table:
    """The annotation files, each beside the slides that it may be named like."""
    paths = [_text(file) for file in files]
    stems = [Path(Path(path).stem) for path in paths]
    names = {
        "path": paths,
        "stem": [stem.name for stem in stems],
        "slide_stem": [stem.stem if stem.suffix.lower() in SLIDE_ENDINGS else stem.name for stem in stems],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in names.items()})


def _annotation_files(con: duckdb.DuckDBPyConnection, found: Found) -> pa.Table:
    """The files beside the slides that they are named like. Raises AnnotationError for two of one name and slide."""
    con.register("coordinates", found.coordinates)
    con.register("found_annotations", found.annotations)
    rows = con.execute(query("ingest/annotation_files")).to_arrow_table()
    con.register("annotation_files", rows)
    for source, path, other in con.execute(query("ingest/annotation_rivals")).fetchall():
        raise AnnotationError(f"two annotation files are called {source!r}: {path} and {other}; rename one")
    return rows
