"""Reads annotation files: one function per format, all returning the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import pyarrow as pa
import shapely
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse
from shapely.geometry.base import BaseGeometry

from udfs.errors import AnnotationError
from udfs.registry import Column, udf


@dataclass(frozen=True)
class Annotation:
    """One drawn shape: its name in the file, its group, WKB geometry in level-0 pixels, and a note of repairs."""

    annotation_id: str
    group_name: str | None
    geometry: bytes
    note: str | None


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


@udf(
    *("VARCHAR", "VARCHAR"),
    returns="STRUCT(annotation_id VARCHAR, group_name VARCHAR, geometry BLOB, note VARCHAR)[]",
)
def read_annotations(path: Column, format: Column) -> pa.Array:
    """Every shape of each annotation file, as a list to unnest. format: 'asap_xml'.

    geometry: WKB, level-0 pixels. note: how an invalid outline was repaired, else NULL.
    Raises AnnotationError naming the file, and the place in it, that cannot be understood.
    """
    files = zip(path.to_pylist(), format.to_pylist(), strict=True)
    return pa.array([[asdict(row) for row in _reader(kind)(Path(file))] for file, kind in files], ROWS)


def _reader(kind: str) -> Callable[[Path], Iterator[Annotation]]:
    if kind not in READERS:
        raise AnnotationError(f"annotation format {kind!r} is not known; known are {', '.join(READERS)}")
    return READERS[kind]


def read_asap(path: Path) -> Iterator[Annotation]:
    """Shapes of an ASAP XML file: polygons, splines, rectangles, and dots as points.

    Format: ASAP's `ASAP_Annotations/Annotations/Annotation[Name, Type, PartOfGroup]/Coordinates`,
    vertices ordered by `Order`. Names that repeat get a number. Entities and DTDs are refused.
    """
    try:
        root = parse(path, forbid_dtd=True).getroot()
    except ParseError as error:
        raise AnnotationError(f"{path}: not well-formed XML ({error}); export it again from ASAP") from None
    except DefusedXmlException:
        raise AnnotationError(f"{path}: XML with a DTD or entities is refused; export it again from ASAP") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror})") from None
    if root.tag != "ASAP_Annotations":
        raise AnnotationError(f"{path}: the root element is <{root.tag}>, not <ASAP_Annotations>: is it ASAP XML?")
    names: dict[str, int] = {}
    for element in root.iterfind("Annotations/Annotation"):
        name = element.get("Name") or "Annotation"
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f"{name} ({names[name]})"
        group = element.get("PartOfGroup")
        yield from _shape(path, unique, None if group in (None, "None") else group, element)


def _shape(path: Path, name: str, group: str | None, element: Element) -> Iterator[Annotation]:
    try:
        ordered = sorted(element.iterfind("Coordinates/Coordinate"), key=lambda c: float(c.attrib["Order"]))
        vertices = [(float(c.attrib["X"].replace(",", ".")), float(c.attrib["Y"].replace(",", "."))) for c in ordered]
    except (KeyError, ValueError) as error:
        raise AnnotationError(f"{path}: annotation {name!r} has a vertex without a number ({error})") from None
    if element.get("Type") in ("Dot", "PointSet"):
        for number, vertex in enumerate(vertices):
            yield Annotation(name if number == 0 else f"{name} [{number}]", group, shapely.to_wkb(shapely.Point(vertex)), None)
        return
    geometry, note = area(path, name, vertices)
    yield Annotation(name, group, shapely.to_wkb(geometry), note)


def area(path: Path, name: str, ring: list[tuple[float, float]]) -> tuple[BaseGeometry, str | None]:
    """The area inside `ring` (level-0 pixels) and a note if the outline had to be repaired.

    Raises AnnotationError for vertices that are not finite. An outline without area becomes empty.
    """
    if not all(abs(value) < 1e9 for vertex in ring for value in vertex):  # also false for NaN
        raise AnnotationError(f"{path}: annotation {name!r} has a vertex that no slide can hold")
    if len(set(ring)) < 3:
        return shapely.Polygon(), "has fewer than three vertices: ignored"
    polygon = shapely.Polygon(ring)
    if polygon.is_valid:
        return polygon, None
    reason = shapely.is_valid_reason(polygon)
    return shapely.make_valid(polygon, method="structure"), f"repaired: {reason}"


READERS: dict[str, Callable[[Path], Iterator[Annotation]]] = {"asap_xml": read_asap}
