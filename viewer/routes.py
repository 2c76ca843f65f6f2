"""What the app's server answers besides its pages."""

from __future__ import annotations

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.routing import Route

from viewer import grids, tiles


class Short(IntegerConvertor):
    """A whole number of few digits: Python refuses to read those of thousands."""

    regex = "[0-9]{1,9}"


register_url_convertor("short", Short())

ROUTES = [
    Route("/histolake/tiles/{slide_id:path}/{level:short}/{column:short}_{row:short}.jpeg", tiles.tile),
    Route("/histolake/thumbnails/{slide_id:path}.jpeg", tiles.thumbnail),
    *grids.ROUTES,
]
