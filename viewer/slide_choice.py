"""Which slide, of which model, is shown, and what beside it: the page's address says it, and the boxes change it."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from viewer import slides
from viewer.reading import Lake, Row
from viewer.text import escaped

NOTHING, OTHER_MODEL, OTHER_SLIDE = "nothing", "another model", "another slide"
IN_ADDRESS = ("slide", "model", "slide2", "model2")


@dataclass(frozen=True)
class Shown:
    """A slide, and the row of sql/app/slide_models.sql whose heatmap lies over it; None without one."""

    slide: Row
    model: Row | None


def choose(lake: Lake) -> list[Shown]:
    """What the address names: nothing, one slide, or two to compare. What it names wrongly is a sentence."""
    ids = slides.names(lake)["slide_id"].to_list()
    boxes = st.columns([3, 3, 2, 3], gap="small")
    slide_id = _choose_slide(boxes[0], "Slide", "slide", ids)
    if slide_id is None:
        return []
    first = _shown(lake, slide_id, "model", boxes[1])
    return [first, *_beside(lake, first, ids, boxes[2], boxes[3])]


def _beside(lake: Lake, first: Shown, ids: list[str], kind_box: DeltaGenerator, box: DeltaGenerator) -> list[Shown]:
    named = OTHER_SLIDE if "slide2" in st.query_params else OTHER_MODEL if "model2" in st.query_params else NOTHING
    st.session_state["beside"] = st.session_state.get("beside_chosen", named)
    kind = kind_box.selectbox(
        "Compare with", [NOTHING, OTHER_MODEL, OTHER_SLIDE], key="beside", on_change=_choose_beside
    )
    if kind == OTHER_MODEL:
        return [_shown(lake, first.slide["slide_id"], "model2", box)]
    if kind == OTHER_SLIDE:
        other = _choose_slide(box, "Second slide", "slide2", ids)
        return [_shown(lake, other, "model", None)] if other else []
    return []


def _choose_slide(box: DeltaGenerator, label: str, key: str, ids: list[str]) -> str | None:
    named = st.query_params.get(key) or st.session_state.get(f"last_{key}")
    if named and named not in ids:
        st.error(escaped(f"The lake has no slide {named!r}; choose one of the {len(ids):,} that it has."))
    known = named if named in ids else None
    st.session_state[key] = known
    box.selectbox(label, ids, index=None, key=key, placeholder="Choose a slide", on_change=_name_in_address)
    st.session_state[f"last_{key}"] = known
    if known and st.query_params.get(key) != known:
        st.query_params[key] = known
    return known


def _shown(lake: Lake, slide_id: str, key: str, box: DeltaGenerator | None) -> Shown:
    """The slide with the model that the address names, else the champion, else the newest that has scored it."""
    slide, found = slides.slide(lake, slide_id), slides.models(lake, slide_id)
    by_id = {row["model_id"]: row for row in found}
    named = st.query_params.get(key)
    if named and named not in by_id:
        known = ", ".join(by_id) or "none yet"
        st.error(escaped(f"The lake has no model {named!r}; it has {known}."))
    usual = next((row["model_id"] for row in found if row["is_champion"] or row["scored"]), None)
    chosen = named if named in by_id else usual
    if box is not None and by_id:
        st.session_state[key] = chosen
        box.selectbox(
            "Model" if key == "model" else "Second model",
            list(by_id),
            key=key,
            format_func=lambda model_id: _model_name(by_id[model_id]),
            on_change=_name_in_address,
        )
    return Shown(slide, by_id[chosen] if chosen else None)


def _model_name(row: Row) -> str:
    state = " (champion)" if row["is_champion"] else "" if row["scored"] else " (has not scored this slide)"
    return f"{row['model_id']}{state}"


def _name_in_address() -> None:
    """Write what the boxes say; where and how close one looked belongs to the slide before."""
    query = {name: st.session_state[name] for name in IN_ADDRESS if st.session_state.get(name)}
    if query.get("slide") == st.query_params.get("slide"):
        query |= {name: st.query_params[name] for name in ("x", "y", "zoom") if name in st.query_params}
    for name in ("slide", "slide2"):
        if name not in query:
            st.session_state.pop(f"last_{name}", None)
    st.query_params.from_dict(query)


def _choose_beside() -> None:
    kind = st.session_state["beside"]
    st.session_state["beside_chosen"] = kind
    for name, keeps in (("model2", OTHER_MODEL), ("slide2", OTHER_SLIDE)):
        if kind != keeps:
            st.query_params.pop(name, None)
            st.session_state.pop(f"last_{name}", None)
