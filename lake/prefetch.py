"""Fetches the slides of the next units while those before them are computed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

import duckdb

from lake.sql_files import Stage
from lake.units import Unit
from udfs.addresses import is_address
from udfs.cache_room import NoRoomError
from udfs.errors import MachineError, SlideError
from udfs.slide_cache import LocalFile, local

AHEAD = 2  # slides that are fetched before their turn; fewer where the cache has no room for them
ROOM_SECONDS = 1.0  # until the cache is looked at again; another process may have left it

FEW = 1000  # slides that a query asks for by name


def addresses(con: duckdb.DuckDBPyConnection, stage: Stage, units: Sequence[Unit]) -> dict[str, str]:
    """The addresses of the units' slides, by slide_id, if the stage opens them; those on this machine have none."""
    if not stage.opens_slides:
        return {}
    slides = con.table(stage.over if stage.over == "slide_files" else "slides")
    names = {unit.slide_id for unit in units}
    if len(names) <= FEW:
        slides = slides.filter(duckdb.ColumnExpression("slide_id").isin(*map(duckdb.ConstantExpression, names)))
    rows = slides.project("slide_id, path").fetchall()
    return {name: path for name, path in rows if name in names and is_address(path)}


class Ahead:
    """Units in order, whose slides are on their way before each is taken.

    Copies are fetched in order, too, and each is kept until `done` was called for all units of its slide: so those of
    units that run have room before others. What cannot be fetched is left to the unit, which then says why. Leaving
    the block lets go of everything; a download that is under way ends by itself.
    """

    def __init__(self, units: Sequence[Unit], addresses: Mapping[str, str]) -> None:
        self._units, self._addresses = units, addresses
        self._slides = [name for name in dict.fromkeys(unit.slide_id for unit in units) if name in addresses]
        self._left = Counter(unit.slide_id for unit in units)
        self._taken = -1  # place in _slides of the unit that was taken last
        self._news = threading.Condition()
        self._held: dict[str, LocalFile] = {}

    def __enter__(self) -> Ahead:
        if self._slides:
            threading.Thread(target=self._fetch, name="prefetch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._news:
            self._left.clear()
            self._held.clear()
            self._news.notify()

    def __iter__(self) -> Iterator[Unit]:
        places = {name: place for place, name in enumerate(self._slides)}
        for unit in self._units:
            if unit.slide_id in places:
                with self._news:
                    self._taken = places[unit.slide_id]
                    self._news.notify()
            yield unit

    def done(self, unit: Unit) -> None:
        """Let go of the unit's slide, if no other unit needs it."""
        with self._news:
            self._left[unit.slide_id] -= 1
            if self._left[unit.slide_id] <= 0:
                self._held.pop(unit.slide_id, None)
                self._news.notify()

    def _fetch(self) -> None:
        for place, name in enumerate(self._slides):
            while self._is_wanted(place, name) and not self._has_room(name):
                with self._news:
                    self._news.wait(ROOM_SECONDS)

    def _has_room(self, name: str) -> bool:
        """Fetch the slide, unless that has to wait for room."""
        try:
            copy = local(self._addresses[name], is_patient=False)
        except NoRoomError:
            return False
        except (SlideError, MachineError):
            return True
        with self._news:
            if self._left[name] > 0:
                self._held[name] = copy
        return True

    def _is_wanted(self, place: int, name: str) -> bool:
        """Wait for the slide to be among the next; false when nobody needs it any more."""
        with self._news:
            self._news.wait_for(lambda: self._left[name] <= 0 or place <= self._taken + AHEAD)
            return self._left[name] > 0
