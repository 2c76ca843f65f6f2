"""The parts of the heatmap page."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from udfs.errors import SlideError
from udfs.slide import Area
from viewer import drawing
from viewer.reading import Lake, Row, SlideView, slide_view
from viewer.region import magnification_for, magnifications, region_around, scanned_area
from viewer.text import escaped

COLORED, TINTED, PLAIN = "Heatmap", "Tint", "Slide alone"


def choose_slide(slides: pl.DataFrame) -> Row | None:
    """The worklist's row of the slide that the address names; changing it changes the address."""
    ids = slides["slide_id"].to_list()
    named = st.query_params.get("slide") or st.session_state.get("last_slide")
    if named and named not in ids:
        st.error(escaped(f"The lake has no slide {named!r}; choose one of the {len(ids):,} that it has."))
    known = named if named in ids else None
    st.session_state["slide"] = known
    st.selectbox("Slide", ids, index=None, key="slide", placeholder="Choose a slide", on_change=_name_in_address)
    if known is None:
        st.session_state.pop("last_slide", None)
        return None
    st.session_state["last_slide"] = known
    if st.query_params.get("slide") != known:
        st.query_params["slide"] = known
    return slides.row(ids.index(known), named=True)


def _name_in_address() -> None:
    slide_id = st.session_state["slide"]
    if slide_id is None:
        st.query_params.clear()
        st.session_state.pop("last_slide", None)
    else:
        st.query_params["slide"] = slide_id


def show_slide(lake: Lake, listed: Row, controls: DeltaGenerator, main: DeltaGenerator) -> None:
    """Show a slide of the worklist: what to look at in `controls`, the picture and the hottest patches in `main`."""
    view = slide_view(lake, listed["slide_id"], listed["patch_set"])
    if listed["reason"]:
        main.error(escaped(listed["reason"]))
    if view.slide["status"] != "ok":
        return
    with controls:
        overlay = _choose_overlay(view)
        position = _choose_hotspot(view)
        region = _choose_region(view)
        st.caption(_facts(view, listed))
    with main:
        _show_picture(lake, view, listed["patch_set"], region, overlay)
        if not view.hotspots.is_empty():
            _show_hotspots(lake, view, listed["patch_set"], position)
        _show_provenance(view)


def _facts(view: SlideView, listed: Row) -> str:
    facts = [f"Split {listed['split']}, label {listed['label'] or 'unknown'}"]
    if listed["patches"] is not None:
        facts.append(f"{listed['patches']:,} patches scored")
        facts.append(f"Highest {listed['highest']:.3f}, mean of top 10 {listed['mean_top10']:.3f}")
    if view.model:
        facts.append(f"Model {view.model['model_id']} of {view.model['encoder_id']}")
    tables = ("predictions", "patches", "slides")
    facts.append("Table versions: " + ", ".join(f"{name} {view.versions[name]}" for name in tables))
    return "  \n".join(escaped(fact) for fact in facts)


def _choose_overlay(view: SlideView) -> str:
    if view.tiles.is_empty():
        st.info("No predictions of this slide yet: `histolake run` and `histolake predict` make them.")
        return PLAIN
    help_ = "Heatmap: patches in colors. Tint: the slide reddened by probability."
    return st.segmented_control(
        "Show", [COLORED, TINTED, PLAIN], default=COLORED, required=True, help=help_, key="overlay", width="stretch"
    )


def _choose_hotspot(view: SlideView) -> int | None:
    """Position of the chosen one of the hottest patches, from 1; choosing it moves the region there."""
    if view.hotspots.is_empty():
        return None
    probabilities: dict[int, float] = dict(view.hotspots.select("position", "probability").iter_rows())
    chosen: int | None = st.pills(
        "Hottest patches",
        list(probabilities),
        format_func=lambda position: f"{position} · {probabilities[position]:.3f}",
        key=_key(view, "hotspot"),
        on_change=_move_to_hotspot,
        args=(view,),
        help="The patches with the highest probability. Choose one to go there.",
        wrap=True,
    )
    return chosen


def _move_to_hotspot(view: SlideView) -> None:
    position = st.session_state[_key(view, "hotspot")]
    whole = scanned_area(view.slide)
    if position is None:
        st.session_state[_key(view, "magnification")] = 1
        return
    patch = view.hotspots.row(position - 1, named=True)
    st.session_state[_key(view, "magnification")] = magnification_for(whole, max(patch["span_x"], patch["span_y"]))
    st.session_state[_key(view, "x")] = round(patch["x"] + patch["span_x"] / 2)
    st.session_state[_key(view, "y")] = round(patch["y"] + patch["span_y"] / 2)


def _choose_region(view: SlideView) -> Area:
    whole = scanned_area(view.slide)
    magnification = st.select_slider(
        "Zoom", magnifications(whole), format_func=lambda times: f"{times}x", key=_key(view, "magnification")
    )
    is_whole = magnification == 1
    x = _choose_center(view, "x", "Center, left to right", whole.x, whole.width, is_disabled=is_whole)
    y = _choose_center(view, "y", "Center, top to bottom", whole.y, whole.height, is_disabled=is_whole)
    region = region_around(whole, x, y, magnification)
    if not is_whole:
        numbers = ",".join(f"{number:.0f}" for number in (region.x, region.y, region.width, region.height))
        st.caption("Region, level-0 px; `histolake heatmap` takes it as `--region`:")
        st.code(numbers, language=None)
    return region


def _choose_center(view: SlideView, axis: str, label: str, start: float, length: float, *, is_disabled: bool) -> int:
    key = _key(view, axis)
    st.session_state.setdefault(key, round(start + length / 2))
    return st.slider(
        label, round(start), round(start + length), step=max(1, round(length / 500)), key=key, disabled=is_disabled
    )


def _key(view: SlideView, name: str) -> str:
    """A widget's key: every slide has its own region."""
    return f"{name} of {view.slide['slide_id']}"


def _show_picture(lake: Lake, view: SlideView, patch_set: str | None, region: Area, overlay: str) -> None:
    slide_id = view.slide["slide_id"]
    try:
        if overlay == PLAIN or patch_set is None:
            png = drawing.plain(lake, slide_id, patch_set, region)
        elif overlay == TINTED:
            png = drawing.tinted(lake, slide_id, patch_set, region)
        else:
            png = drawing.colored(lake, slide_id, patch_set, region)
    except SlideError as error:
        st.error(escaped(str(error)))
        return
    alt = f"{overlay} of slide {slide_id}, {region.width:.0f} x {region.height:.0f} level-0 pixels"
    st.image(png, alt=alt, width="content")
    st.download_button("Save this picture", png, f"{slide_id}.png", "image/png", on_click="ignore")


def _show_hotspots(lake: Lake, view: SlideView, patch_set: str, position: int | None) -> None:
    slide_id = view.slide["slide_id"]
    if position is None:
        st.subheader("Hottest patches")
        st.image(drawing.hotspot_sheet(lake, slide_id, patch_set), alt="The patches with the highest probability")
    else:
        st.subheader(f"Patch {position} of the hottest")
        st.image(
            drawing.hotspot_close_up(lake, slide_id, patch_set, position), alt=f"Patch {position}, wider and wider"
        )


def _show_provenance(view: SlideView) -> None:
    model: dict[str, Any] = view.model or {}
    with st.expander("Where this comes from"):
        facts = {**model, "slide file": view.slide["path"]}
        st.table(pl.DataFrame({"fact": list(facts), "value": [str(value) for value in facts.values()]}))
        st.caption("Delta versions of the tables read")
        st.table(pl.DataFrame({"table": list(view.versions), "version": list(view.versions.values())}))
