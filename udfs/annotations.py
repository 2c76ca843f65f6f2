"""Reads annotation files: one function per format, all returning the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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

FARTHEST = 1e9  # level-0 px; no vertex of a slide lies beyond
AREAS, POINTS, IGNORED = ("Polygon", "Spline", "Rectangle"), ("Dot", "PointSet"), ("Measurement",)  # ASAP's types


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
    NULL where path or format is.
    Raises AnnotationError naming the file, and the place in it, that cannot be understood.
    """
    files = zip(path.to_pylist(), format.to_pylist(), strict=True)
    return pa.array([None if None in row else _rows(*row) for row in files], ROWS)


def _rows(path: str, format: str) -> list[dict[str, object]]:
    return [asdict(row) for row in _reader(format)(Path(path))]


def _reader(kind: str) -> Callable[[Path], Iterator[Annotation]]:
    if kind not in READERS:
        raise AnnotationError(f"annotation format {kind!r} is not known; known are {', '.join(READERS)}")
    return READERS[kind]


def read_asap(path: Path) -> Iterator[Annotation]:
    """Shapes of an ASAP XML file: polygons, splines, rectangles, and dots as points.

    Format: ASAP's `ASAP_Annotations/Annotations/Annotation[Name, Type, PartOfGroup]/Coordinates`,
    vertices ordered by `Order`, commas allowed as decimal marks. Names that repeat get a number.
    Measurements are kept without area. Entities and DTDs are refused, as are shapes of unknown Type.
    """
    try:
        root = parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException:
        raise AnnotationError(f"{path}: XML with a DTD or entities is refused; export it again from ASAP") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}); was the file moved?") from None
    except (ParseError, LookupError, ValueError) as error:  # the last two: encodings that are not known
        raise AnnotationError(f"{path}: not well-formed XML ({error}); export it again from ASAP") from None
    if root is None or root.tag != "ASAP_Annotations":
        found = None if root is None else root.tag
        raise AnnotationError(f"{path}: the root element is <{found}>, not <ASAP_Annotations>; export it from ASAP")
    names = _Names()
    for element in root.iterfind("Annotations/Annotation"):
        name = names.unique(element.get("Name") or "Annotation", "{} ({})")
        group = element.get("PartOfGroup")
        yield from _shapes(path, name, None if group in (None, "", "None") else group, element, names)


class _Names:
    """The names given so far, so that none is given twice."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._times: dict[tuple[str, str], int] = {}

    def unique(self, name: str, numbered: str) -> str:
        """`name`, or if that is taken, the name with a number, in the form `numbered`, that is not."""
        times, chosen = self._times.get((name, numbered), 1), name
        while chosen in self._given:
            times += 1
            chosen = numbered.format(name, times)
        self._times[name, numbered] = times
        self._given.add(chosen)
        return chosen


def _shapes(path: Path, name: str, group: str | None, element: Element, names: _Names) -> Iterator[Annotation]:
    kind = element.get("Type") or "Polygon"
    if kind not in (*AREAS, *POINTS, *IGNORED):
        known = ", ".join((*AREAS, *POINTS, *IGNORED))
        raise AnnotationError(f"{path}: annotation {name!r} has the Type {kind!r}; convert it to one of {known}")
    vertices = _vertices(path, name, element)
    if kind in IGNORED:
        yield Annotation(name, group, shapely.to_wkb(shapely.Polygon()), f"is of type {kind}: ignored")
    elif kind in AREAS:
        geometry, note = area(path, name, vertices)
        yield Annotation(name, group, shapely.to_wkb(geometry), note)
    for number, vertex in enumerate(vertices if kind in POINTS else ()):
        unique = name if number == 0 else names.unique(f"{name} [{number}]", "{} ({})")
        yield Annotation(unique, group, shapely.to_wkb(shapely.Point(vertex)), None)


def _vertices(path: Path, name: str, element: Element) -> list[tuple[float, float]]:
    """The shape's vertices in their order, level-0 pixels. Raises AnnotationError for one that is not two numbers."""
    ordered: list[tuple[float, float, float]] = []
    for number, coordinate in enumerate(element.iterfind("Coordinates/Coordinate"), start=1):
        try:
            order, x, y = (float(coordinate.attrib[key].replace(",", ".")) for key in ("Order", "X", "Y"))
        except (KeyError, ValueError) as error:
            reason = f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)
            raise AnnotationError(
                f"{path}: annotation {name!r}, vertex {number}: {reason}; export it again from ASAP"
            ) from None
        ordered.append((order, x, y))
    _check_finite(path, name, ordered)
    return [(x, y) for _, x, y in sorted(ordered, key=lambda vertex: vertex[0])]


def _check_finite(path: Path, name: str, vertices: Iterable[tuple[float, ...]]) -> None:
    if not all(abs(value) < FARTHEST for vertex in vertices for value in vertex):  # also false for NaN
        raise AnnotationError(f"{path}: annotation {name!r} has a vertex that no slide can hold; mend or remove it")


def area(path: Path, name: str, ring: list[tuple[float, float]]) -> tuple[BaseGeometry, str | None]:
    """The area inside `ring` (level-0 pixels) and a note if the outline had to be repaired.

    Raises AnnotationError for vertices that are not finite. An outline without area becomes empty.
    """
    _check_finite(path, name, ring)
    if len(set(ring)) < 3:
        return shapely.Polygon(), "has fewer than three vertices: ignored"
    polygon = shapely.Polygon(ring)
    if polygon.is_valid:
        return polygon, None
    reason = shapely.is_valid_reason(polygon)
    repaired = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
    if repaired.is_empty:
        return shapely.Polygon(), "has no area: ignored"
    return repaired, f"repaired: {reason}"


READERS: dict[str, Callable[[Path], Iterator[Annotation]]] = {"asap_xml": read_asap}
