"""What every reader gives and needs: a row per shape, names given once, vertices checked, outlines repaired."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import shapely
from shapely.geometry.base import BaseGeometry

from udfs.annotations.tangles import Edges, edges, edges_of, is_crowded, is_tangled
from udfs.errors import AnnotationError, quoted, shortened

LONGEST = 1_000  # characters of a name or a group
FARTHEST = 1e9  # level-0 px; no vertex of a slide lies beyond
MOST_SECONDS = 120.0  # of a processor, to mend and to unite outlines of one file

Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Annotation:
    """One drawn shape: its name in the file, its group, WKB geometry in level-0 pixels, and a note of repairs."""

    annotation_id: str
    group_name: str | None
    geometry: bytes
    note: str | None


def annotation(name: str, group: str | None, geometry: BaseGeometry, note: str | None = None) -> Annotation:
    """A row of that geometry."""
    return Annotation(name, group, shapely.to_wkb(geometry), note)


def ignored(name: str, group: str | None, reason: str) -> Annotation:
    """A row without geometry for what cannot be an area or a point: `reason` completes 'NAME …: ignored'."""
    return annotation(name, group, shapely.Polygon(), f"{reason}: ignored")


class Names:
    """The names given so far, so that none is given twice."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._times: dict[tuple[str, str], int] = {}

    def unique(self, name: str, numbered: str = "{} ({})") -> str:
        """`name`, or if that is taken, the name with a number, in the form `numbered`, that is not."""
        times, chosen = self._times.get((name, numbered), 1), name
        while chosen in self._given:
            times += 1
            chosen = numbered.format(name, times)
        self._times[name, numbered] = times
        self._given.add(chosen)
        return chosen

    def series(self, name: str, count: int) -> list[str]:
        """Names for all that one annotation gives: `name`, 'name [1]', 'name [2]' and so on."""
        return [name, *(self.unique(f"{name} [{number}]") for number in range(1, count))][:count]


class Repairs:
    """What mending and uniting the outlines of one file takes, so that it ends however many there are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seconds = 0.0

    @contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Count the time within. Raises AnnotationError, naming the annotation, when there is no more."""
        if self._seconds > MOST_SECONDS:
            why = "the outlines before it cross so often that mending them takes too long"
            raise AnnotationError(f"{self.path}: annotation {quoted(name)}: {why}; draw them again")
        start = time.thread_time()
        try:
            yield
        finally:
            self._seconds += time.thread_time() - start


def check_name(path: Path, text: str) -> str:
    """The text, if a name or a group can be it. Raises AnnotationError for one that is too long, or no text."""
    try:
        text.encode()  # half of a surrogate pair is no character
    except UnicodeEncodeError:
        raise AnnotationError(f"{path}: the name or class {quoted(text)} is no text; export it again") from None
    if len(text) > LONGEST:
        raise AnnotationError(f"{path}: the name or class {quoted(text)} is longer than {LONGEST:,} characters; cut it")
    return text


def check_finite(path: Path, name: str, vertices: Iterable[Iterable[float]]) -> None:
    """Raise AnnotationError for a vertex that no slide can hold."""
    if not all(abs(value) < FARTHEST for vertex in vertices for value in vertex):  # also false for NaN
        raise AnnotationError(
            f"{path}: annotation {quoted(name)} has a vertex that no slide can hold; mend or remove it"
        )


def area(repairs: Repairs, name: str, ring: Ring, holes: Sequence[Ring] = ()) -> tuple[BaseGeometry, str | None]:
    """The area inside `ring` (level-0 pixels) less that inside `holes`, and a note if an outline had to be repaired.

    repairs: of the file. Raises AnnotationError for vertices that are not finite, and outlines that take too long to
    repair. An outline without area becomes empty.
    """
    path = repairs.path
    for each in (ring, *holes):
        check_finite(path, name, each)
    lines = edges((ring, *holes))
    if is_crowded(lines):
        raise AnnotationError(f"{path}: annotation {quoted(name)} crosses itself all over; draw it again")
    try:
        return _area(repairs, name, ring, holes, lines)
    except shapely.GEOSException as error:
        why = shortened(str(error))
        raise AnnotationError(f"{path}: annotation {quoted(name)} is no outline ({why}); draw it again") from None


def union(repairs: Repairs, name: str, areas: Sequence[BaseGeometry]) -> BaseGeometry:
    """One shape of the areas. Raises AnnotationError when they cross each other nearly everywhere."""
    if len(areas) == 1:
        return areas[0]
    if is_crowded(edges_of(areas)):
        raise AnnotationError(f"{repairs.path}: annotation {quoted(name)} crosses itself all over; draw it again")
    with repairs.counted(name):
        return shapely.union_all(areas)


def _area(
    repairs: Repairs, name: str, ring: Ring, holes: Sequence[Ring], lines: Edges
) -> tuple[BaseGeometry, str | None]:
    if all(len(set(each)) >= 3 for each in (ring, *holes)):
        polygon = shapely.Polygon(ring, holes)
        if polygon.is_valid:
            return polygon, None
        reason = f"repaired: {shapely.is_valid_reason(polygon)}"
    else:
        reason = "repaired: a hole has fewer than three vertices"
    with repairs.counted(name):
        if is_tangled(lines):
            raise AnnotationError(f"{repairs.path}: annotation {quoted(name)} crosses itself all over; draw it again")
        outside, note = _outline(ring)
        if outside.is_empty:
            return outside, note
        # hole by hole, for shapely's own repair would make land of a hole that lies outside
        return shapely.difference(outside, shapely.union_all([_outline(hole)[0] for hole in holes])), reason


def _outline(ring: Ring) -> tuple[BaseGeometry, str | None]:
    if len(set(ring)) < 3:
        return shapely.Polygon(), "has fewer than three vertices: ignored"
    repaired = shapely.make_valid(shapely.Polygon(ring), method="structure", keep_collapsed=False)
    return (shapely.Polygon(), "has no area: ignored") if repaired.is_empty else (repaired, None)
