"""Reads ASAP XML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

import shapely
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from udfs.annotations.content import content_of
from udfs.annotations.shapes import Annotation, Names, Repairs, annotation, area, check_finite, check_name, ignored
from udfs.errors import AnnotationError, quoted, shortened

AREAS, POINTS, IGNORED = ("Polygon", "Spline", "Rectangle"), ("Dot", "PointSet"), ("Measurement",)  # ASAP's types
DEEPEST = 32  # elements within each other; ASAP's files have five
MOST = 10_000_000  # elements; a file of the largest size has some 6 million vertices


def read_asap(path: Path) -> Iterator[Annotation]:
    """Shapes of an ASAP XML file: polygons, splines, rectangles, and dots as points.

    Format: ASAP's `ASAP_Annotations/Annotations/Annotation[Name, Type, PartOfGroup]/Coordinates`,
    vertices ordered by `Order`, commas allowed as decimal marks. Names that repeat get a number.
    Measurements are kept without area. Entities and DTDs are refused, as are shapes of unknown Type.
    """
    content = content_of(path)
    parser = XMLParser(target=_Bounded(path), forbid_dtd=True)
    try:
        parser.feed(content)  # at once: a long token that comes in parts is read anew with each
        root = parser.close()
    except DefusedXmlException:
        raise AnnotationError(f"{path}: XML with a DTD or entities is refused; export it again from ASAP") from None
    except (ParseError, LookupError, ValueError) as error:  # the last two: encodings that are not known
        raise AnnotationError(f"{path}: not well-formed XML ({error}); export it again from ASAP") from None
    if root.tag != "ASAP_Annotations":
        found = shortened(root.tag)
        raise AnnotationError(f"{path}: the root element is <{found}>, not <ASAP_Annotations>; export it from ASAP")
    names, repairs = Names(), Repairs(path)
    for element in root.iterfind("Annotations/Annotation"):
        name = names.unique(check_name(path, element.get("Name") or "Annotation"))
        group = check_name(path, element.get("PartOfGroup") or "")
        yield from _shapes(repairs, name, None if group in ("", "None") else group, element, names)


class _Bounded(TreeBuilder):
    """The tree of a file, which must not be deep, nor have elements without end: each takes memory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._depth, self._count = path, 0, 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        """Begin an element. Raises AnnotationError within more than DEEPEST others, and after MOST."""
        self._depth += 1
        self._count += 1
        if self._depth > DEEPEST:
            raise AnnotationError(f"{self._path}: nested too deeply for annotations; export it again from ASAP")
        if self._count > MOST:
            raise AnnotationError(f"{self._path}: more than {MOST:,} elements; export the annotations alone")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        """End the element."""
        self._depth -= 1
        return super().end(tag)


def _shapes(repairs: Repairs, name: str, group: str | None, element: Element, names: Names) -> Iterator[Annotation]:
    path = repairs.path
    kind = element.get("Type") or "Polygon"
    if kind not in (*AREAS, *POINTS, *IGNORED):
        known = ", ".join((*AREAS, *POINTS, *IGNORED))
        raise AnnotationError(
            f"{path}: annotation {quoted(name)} has the Type {quoted(kind)}; convert it to one of {known}"
        )
    vertices = _vertices(path, name, element)
    if kind in IGNORED:
        yield ignored(name, group, f"is of type {kind}")
    elif kind in AREAS:
        yield annotation(name, group, *area(repairs, name, vertices))
    else:
        for each, vertex in zip(names.series(name, len(vertices)), vertices, strict=True):
            yield annotation(each, group, shapely.Point(vertex))


def _vertices(path: Path, name: str, element: Element) -> list[tuple[float, float]]:
    """The shape's vertices in their order, level-0 pixels. Raises AnnotationError for one that is not two numbers."""
    ordered: list[tuple[float, float, float]] = []
    for number, coordinate in enumerate(element.iterfind("Coordinates/Coordinate"), start=1):
        try:
            order, x, y = (float(coordinate.attrib[key].replace(",", ".")) for key in ("Order", "X", "Y"))
        except (KeyError, ValueError) as error:
            reason = f"no {error.args[0]}" if isinstance(error, KeyError) else shortened(str(error))
            raise AnnotationError(
                f"{path}: annotation {quoted(name)}, vertex {number}: {reason}; export it again from ASAP"
            ) from None
        ordered.append((order, x, y))
    check_finite(path, name, ordered)
    return [(x, y) for _, x, y in sorted(ordered, key=lambda vertex: vertex[0])]
