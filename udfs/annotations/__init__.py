"""Reads annotation files: one module per format, all giving the same rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import shapely

from udfs.addresses import is_pseudonym
from udfs.annotations.asap import read_asap
from udfs.annotations.geojson import read_geojson
from udfs.annotations.ncrf import read_ncrf
from udfs.annotations.shapes import Annotation
from udfs.annotations.tangles import edges_of, is_crowded
from udfs.errors import AnnotationError, SlideError
from udfs.pseudonyms import true_path
from udfs.registry import Column, udf

ENDINGS = {".xml", ".json", ".geojson"}
READERS: dict[str, Callable[[Path], Iterator[Annotation]]] = {
    "asap_xml": read_asap,
    "qupath_geojson": read_geojson,
    "ncrf_json": read_ncrf,
}
ROWS = pa.list_(
    pa.struct(
        [
            ("annotation_id", pa.string()),
            ("group_name", pa.string()),
            ("geometry", pa.binary()),
            ("note", pa.string()),
        ]
    )
)
NCRF = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:positive|negative)"')


@udf(
    *("VARCHAR", "VARCHAR"),
    returns="STRUCT(annotation_id VARCHAR, group_name VARCHAR, geometry BLOB, note VARCHAR)[]",
)
def read_annotations(path: Column, format: Column) -> pa.Array:
    """Every shape of each annotation file, as a list to unnest. format: 'asap_xml', 'qupath_geojson' or 'ncrf_json'.

    geometry: WKB, level-0 pixels. note: how an invalid outline was repaired, or why a shape has no area, else NULL.
    NULL where path or format is.
    Raises AnnotationError naming the file, and the place in it, that cannot be understood; of a pseudonym not the
    place, which may quote the file.
    """
    files = zip(path.to_pylist(), format.to_pylist(), strict=True)
    return pa.array([None if None in row else _rows(*row) for row in files], ROWS)


@udf("VARCHAR", returns="VARCHAR")
def annotation_format(path: Column) -> pa.Array:
    """The format of each annotation file: 'asap_xml', 'qupath_geojson' or 'ncrf_json'.

    By its ending, and of JSON by its first key: NCRF's is "positive" or "negative".
    """
    return pa.array([None if one is None else _format(Path(true_path(one))) for one in path.to_pylist()], pa.string())


def _rows(path: str, format: str) -> list[dict[str, object]]:
    if format not in READERS:
        raise AnnotationError(f"annotation format {format!r} is not known; known are {', '.join(READERS)}")
    try:
        rows = list(READERS[format](Path(true_path(path))))
        if is_crowded(edges_of(shapely.from_wkb([row.geometry for row in rows]))):  # else every run would unite them
            raise AnnotationError(f"{path}: its annotations cross each other all over; draw them again")
        return [asdict(row) for row in rows]
    except MemoryError:
        why = "takes more memory than there is; export the annotations alone, without cells and detections"
        raise AnnotationError(f"{path}: {why}") from None
    except (AnnotationError, SlideError):
        if not is_pseudonym(path):
            raise
        raise AnnotationError(
            f"{path}: the annotation file cannot be read; `histolake pseudonyms {path}` tells which it is, "
            "and ingesting it into a lake without pseudonyms what is wrong with it"
        ) from None


def _format(path: Path) -> str:
    if path.suffix.lower() not in {".json", ".geojson"}:
        return "asap_xml"
    try:
        if not path.is_file():  # a pipe would be waited for; reading it says what is wrong
            return "qupath_geojson"
        with path.open("rb") as file:
            return "ncrf_json" if NCRF.match(file.read(4096)) else "qupath_geojson"
    except (OSError, ValueError):  # ValueError: a name that no file can have; reading it says what is wrong
        return "qupath_geojson"
