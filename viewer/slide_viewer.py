"""The slide viewer on the page: what its component is given, and what happens when a patch is clicked."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from lake.heatmap_frame import BANNER
from udfs.errors import HistolakeError, KeyFileError, SlideError
from udfs.slide import file_state
from udfs.slide_cache import is_here
from viewer import slides
from viewer.audited import record_opening
from viewer.gate import guarded, tokens_for
from viewer.patch_panel import find_patch, show_patch
from viewer.person import is_active
from viewer.reading import Lake, Row, open_lake
from viewer.slide_choice import Shown
from viewer.text import escaped

VERSIONS_SHOWN = ("predictions", "patches", "slides")


@cache
def _component() -> ComponentRenderer:
    """The packaged component, looked for when the first page needs it: outside the app there is nobody to find it."""
    html = (files("histolake") / "assets" / "viewer.html").read_text(encoding="utf-8")
    return st.components.v2.component("histolake.viewer", html=html, css="viewer.css", js="viewer.js")


def show_slides(lake: Lake, shown: list[Shown]) -> None:
    """Show slides side by side, and below them the patch that was clicked."""
    record_opening(lake, [each.slide["slide_id"] for each in shown], {"what": "slide"})
    usable = [each for each in shown if _is_usable(each)]
    for each in usable:
        _say_what_is_missing(each)
    if usable and usable[0] is shown[0]:
        panes = [_pane(lake, each) for each in usable]
        _viewer_and_patch(panes)


@st.fragment
@guarded
def _viewer_and_patch(panes: list[dict[str, Any]]) -> None:
    """The component and the panel alone run again after a click; the slide stays where it is."""
    asked = st.session_state.get("asked_patch")
    if asked and asked["slide_id"] not in {pane["slide_id"] for pane in panes}:
        asked = None
    patch, problem = None, None
    try:
        patch = find_patch(open_lake(), asked) if asked else None
    except HistolakeError as error:
        problem = str(error)
    data = {"panes": panes, "banner": BANNER, "chosen": _box(patch) if patch else None}
    _component()(key="viewer", data=data, on_patch_change=_keep_patch)
    if problem:
        st.info(escaped(problem))
    elif patch:
        show_patch(open_lake(), patch)
    else:
        st.caption(
            "Click a patch to see it close, what it resembles across the lake, and where its probability is from."
        )


def _keep_patch() -> None:
    clicked = st.session_state["viewer"].get("patch")
    if clicked:
        is_active()
        st.session_state["asked_patch"] = dict(clicked)


def _box(patch: Row) -> dict[str, Any]:
    return {name: patch[name] for name in ("slide_id", "x", "y", "span_x", "span_y")}


def _is_usable(shown: Shown) -> bool:
    slide = shown.slide
    if slide["status"] != "ok":
        st.error(escaped(f"Slide {slide['slide_id']} cannot be used: {slide['error']}"))
        if not slide["width"]:  # one that lacks its microns per pixel can be looked at all the same
            return False
    try:
        waiting = nullcontext() if is_here(slide["path"]) else st.spinner(f"Fetching {escaped(slide['slide_id'])} …")
        with waiting:
            file_state(slide["path"])
    except KeyFileError as error:
        st.error(escaped(f"Slide {slide['slide_id']}: {error}"))
        return False
    except SlideError as error:
        st.error(escaped(f"Slide {slide['slide_id']}: {error} `histolake ingest` registers it at its new place."))
        return False
    return True


def _say_what_is_missing(shown: Shown) -> None:
    slide_id, model = shown.slide["slide_id"], shown.model
    if shown.slide["status"] != "ok":
        return
    if model is None:
        st.info(
            f"No model has scored {escaped(slide_id)} yet: "
            "`histolake run`, `histolake train` and `histolake predict` do that."
        )
    elif not model["scored"]:
        st.info(escaped(f"Model {model['model_id']} has not scored {slide_id} yet: `histolake predict` does that."))
    elif model["scored"] < model["patches"]:
        st.warning(
            escaped(
                f"Model {model['model_id']} has scored {model['scored']:,} of the {model['patches']:,} patches of "
                f"{slide_id}: `histolake predict` goes on; unreadable patches have no probability."
            )
        )


def _pane(lake: Lake, shown: Shown) -> dict[str, Any]:
    """What the component needs of a slide; assets/pane.js and viewer.js read it."""
    slide, model = shown.slide, shown.model if shown.model and shown.model["scored"] else None
    slide_id = slide["slide_id"]
    versions = slides.versions(lake)
    quoted = quote(slide_id, safe="")
    at = {"version": lake.version, "lake": slides.identity(lake.root)}
    of_model = {"model": model["model_id"], "patch_set": model["patch_set"], **at} if model else {}
    has_outlines = not slides.outlines(lake, slide_id).is_empty()
    facts = [f"Slide {slide_id}"]
    facts += (
        [f"Model {model['model_id']} of {model['encoder_id']}, threshold {model['threshold']:.3g}"] if model else []
    )
    facts += ["Versions: " + ", ".join(f"{name} {versions[name]}" for name in VERSIONS_SHOWN)]
    return {
        "slide_id": slide_id,
        "token": tokens_for("slide")(slide_id),
        "tiles": f"/histolake/tiles/{quoted}",
        "left": slide["left_edge"],
        "top": slide["top_edge"],
        **{name: slide[name] for name in ("width", "height", "mpp_x", "mpp_y")},
        "model_id": model["model_id"] if model else None,
        "patch_set": model["patch_set"] if model else None,
        "heatmap": _route("heatmaps", quoted, of_model) if model else None,
        "outcomes": _route("outcomes", quoted, of_model) if model and model["has_labels"] else None,
        "hotspots_file": _route("hotspots", quoted, of_model) if model else None,
        "saving": _route("saving", quoted, {**at, **of_model}),
        "annotations": _route("annotations", quoted, at) if has_outlines else None,
        "hotspots": _hotspots(lake, slide_id, model) if model else [],
        "caption": f"{slide_id} · {model['model_id']}" if model else slide_id,
        "facts": facts,
    }


def _route(kind: str, quoted: str, query: Row) -> str:
    return f"/histolake/{kind}/{quoted}?{urlencode(query)}"


def _hotspots(lake: Lake, slide_id: str, model: Row) -> list[dict[str, Any]]:
    found = slides.hotspots(lake, slide_id, model["model_id"], model["patch_set"])
    return found.select("rank", "x", "y", "span_x", "span_y", "probability").to_dicts()
