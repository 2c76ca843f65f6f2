"""Pictures for the heatmap page, as PNG: drawn once for each lake version, slide and region."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import streamlit as st
from PIL import Image

from lake.contact_sheet import show
from lake.heatmap import LARGEST_ZOOM, render_heatmap
from lake.heatmap_frame import Legend, frame_picture
from udfs.slide import Area, read_area
from viewer.reading import Lake, Row, SlideView, slide_view

LANDSCAPE_PX, PORTRAIT_PX = 1100, 800  # longer edge of a picture, so that it and its letters suit the page
PATCH_PX = 160
CLOSE_PX, LARGEST_CLOSE_PX = 280, 320  # of the chosen patch, about
WIDER = (1.0, 2.0, 4.0, 8.0)  # times the patch's own extent

_pictures = st.cache_data(max_entries=64, show_spinner="Drawing …")


@_pictures
def colored(lake: Lake, slide_id: str, patch_set: str, region: Area) -> bytes:
    """The region, every patch in the color of its probability."""
    return _heatmap(slide_view(lake, slide_id, patch_set), region, tint=False)


@_pictures
def tinted(lake: Lake, slide_id: str, patch_set: str, region: Area) -> bytes:
    """The region in the slide's own colors, reddened by probability."""
    return _heatmap(slide_view(lake, slide_id, patch_set), region, tint=True)


@_pictures
def plain(lake: Lake, slide_id: str, patch_set: str | None, region: Area) -> bytes:
    """The region of the slide alone, in the same frame and size as the heatmap, to switch between them."""
    slide = slide_view(lake, slide_id, patch_set).slide
    mpp_x, mpp_y = (slide["mpp_x"], slide["mpp_y"]) if slide["mpp_x"] and slide["mpp_y"] else (1.0, 1.0)
    zoom = _long_edge(region) / max(region.width * mpp_x, region.height * mpp_y)
    zoom = min(zoom, LARGEST_ZOOM / mpp_x, LARGEST_ZOOM / mpp_y)
    width, height = round(region.width * mpp_x * zoom), round(region.height * mpp_y * zoom)
    image = frame_picture(
        Image.fromarray(read_area(slide["path"], region, width, height)),
        title=f"{slide_id} · the slide alone",
        legend=Legend("tumor probability: not drawn", np.full((256, 3), 255, np.uint8)),
        microns_per_px=1 / zoom if slide["mpp_x"] and slide["mpp_y"] else None,
        message=None,
    )
    return _png(image)


@_pictures
def hotspot_sheet(lake: Lake, slide_id: str, patch_set: str) -> bytes:
    """The patches with the highest probability, side by side."""
    return _png(show(slide_view(lake, slide_id, patch_set).hotspots, patch_px=PATCH_PX))


@_pictures
def hotspot_close_up(lake: Lake, slide_id: str, patch_set: str, position: int) -> bytes:
    """One of them, and what lies around it at wider and wider views where the slide's mpp is known."""
    row = slide_view(lake, slide_id, patch_set).hotspots.slice(position - 1, 1)
    patch = row.row(0, named=True)
    if not patch["mpp_x"] or not patch["mpp_y"]:
        return _png(show(row, patch_px=CLOSE_PX))
    px = min(patch["patch_px"] * max(1, CLOSE_PX // patch["patch_px"]), LARGEST_CLOSE_PX)
    own = patch["span_x"] * patch["mpp_x"] / px
    return _png(show(row, mpp=[float(f"{own * factor:.3g}") for factor in WIDER], patch_px=px))


def _heatmap(view: SlideView, region: Area, *, tint: bool) -> bytes:
    model: Row = view.model or {}
    image = render_heatmap(
        view.slide["path"],
        view.tiles,
        title=f"{view.slide['slide_id']} · model {model.get('model_id')} · {model.get('encoder_id')}",
        mpp_x=view.slide["mpp_x"],
        mpp_y=view.slide["mpp_y"],
        region=region,
        tint=tint,
        long_edge_px=_long_edge(region),
    )
    return _png(image)


def _long_edge(region: Area) -> int:
    return LANDSCAPE_PX if region.width >= region.height else PORTRAIT_PX


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
