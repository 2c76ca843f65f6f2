"""What the app's server answers besides its pages."""

from __future__ import annotations

from starlette.routing import Route

from viewer import grids, tiles

ROUTES = [
    Route("/histolake/tiles/{slide_id:path}/{level:int}/{column:int}_{row:int}.jpeg", tiles.tile),
    Route("/histolake/thumbnails/{slide_id:path}.jpeg", tiles.thumbnail),
    *grids.ROUTES,
]
