"""What is known of a slide: its models, hotspots and outlines, and heatmaps as grids; kept until the lake changes."""

from __future__ import annotations

from functools import lru_cache

import polars as pl

from lake import session, store
from lake.choices import Peaks, lake_path
from lake.patch_grid import PatchGrid, lattice, outcome_grid, probability_grid
from lake.sql_files import query
from lake.table_files import of_slide
from udfs.errors import HistolakeError
from viewer.reading import Lake, Row, connected, connection

HOTSPOTS = 40
HOTSPOT_CANDIDATES = 1000  # patches that hotspots are looked for among
GRIDS = 32  # kept in memory; one is rarely above a megabyte


@lru_cache(maxsize=4)
def names(lake: Lake) -> pl.DataFrame:
    """The slide_id of every slide."""
    with connection(lake) as con:
        return con.execute(query("app/slide_names")).pl()


@lru_cache(maxsize=256)
def slide(lake: Lake, slide_id: str) -> Row:
    """The row of sql/app/slide.sql. Raises HistolakeError when the lake has no such slide."""
    with connection(lake) as con:
        rows = con.execute(query("app/slide"), {"slide_id": slide_id}).pl().to_dicts()
    if not rows:
        raise HistolakeError(
            f"the lake has no slide {slide_id!r}; choose one of the {names(lake).height:,} that it has"
        )
    return rows[0]


@lru_cache(maxsize=64)
def models(lake: Lake, slide_id: str) -> tuple[Row, ...]:
    """The rows of sql/app/slide_models.sql: every model, the champion first."""
    with connection(lake) as con:
        return tuple(con.execute(query("app/slide_models"), {"slide_id": slide_id}).pl().to_dicts())


def model(lake: Lake, slide_id: str, model_id: str | None) -> Row:
    """What a model, the champion by default, has scored of a slide.

    Raises HistolakeError when there is no such model, or no champion.
    """
    found = models(lake, slide_id)
    for row in found:
        if row["model_id"] == model_id or (model_id is None and row["is_champion"]):
            return row
    known = ", ".join(row["model_id"] for row in found) or "none yet; `histolake train` makes one"
    if model_id is None:
        raise HistolakeError(f"the lake has no champion; name a model: {known}")
    raise HistolakeError(f"the lake has no model {model_id!r}; it has {known}")


@lru_cache(maxsize=GRIDS)
def heatmap(lake: Lake, slide_id: str, model_id: str, patch_set: str) -> PatchGrid:
    """The model's probabilities of the slide's patches. Raises HistolakeError when it has scored none."""
    where = {"slide_id": slide_id, "model_id": model_id, "patch_set": patch_set}
    with connection(lake) as con, of_slide(con, slide_id):
        tiles = con.execute(query("app/heatmap_tiles"), where).pl()
    if tiles.is_empty():
        raise HistolakeError(
            f"slide {slide_id}: model {model_id} has scored no patch of {patch_set}; `histolake predict` scores them"
        )
    row = model(lake, slide_id, model_id)
    return probability_grid(tiles, lattice(tiles, row["stride_x"], row["stride_y"]))


@lru_cache(maxsize=GRIDS)
def outcomes(lake: Lake, slide_id: str, model_id: str, patch_set: str) -> PatchGrid:
    """How the model does on labelled patches, cell by cell of the heatmap. Raises HistolakeError as `heatmap`."""
    cells = heatmap(lake, slide_id, model_id, patch_set).where
    where = {"slide_id": slide_id, "model_id": model_id, "patch_set": patch_set}
    with connection(lake) as con, of_slide(con, slide_id):
        return outcome_grid(con.execute(query("app/heatmap_outcomes"), where).pl(), cells)


@lru_cache(maxsize=64)
def hotspots(lake: Lake, slide_id: str, model_id: str, patch_set: str) -> pl.DataFrame:
    """The rows of sql/app/hotspots.sql."""
    where = {"slide_id": slide_id, "model_id": model_id, "patch_set": patch_set}
    search = {**Peaks().parameters, "candidates": HOTSPOT_CANDIDATES, "hotspots": HOTSPOTS}
    with connection(lake) as con, of_slide(con, slide_id):
        return con.execute(query("app/hotspots"), {**where, **search}).pl()


@lru_cache(maxsize=64)
def outlines(lake: Lake, slide_id: str) -> pl.DataFrame:
    """The rows of sql/app/outlines.sql."""
    with connection(lake) as con:
        return con.execute(query("app/outlines"), {"slide_id": slide_id}).pl()


def versions(lake: Lake) -> dict[str, int]:
    """Delta version of every table at that moment of the lake."""
    with connection(lake) as con:
        return session.versions(con)


@lru_cache(maxsize=8)
def identity(root: str) -> str:
    """What tells this lake from others that were, or will be, served at the same address."""
    return str(store.open_table(lake_path(root), "runs").metadata().id)


def forget() -> None:
    """Read all anew: for lakes that are replaced under their path."""
    for each in (connected, names, slide, models, heatmap, outcomes, hotspots, outlines, identity):
        each.cache_clear()
