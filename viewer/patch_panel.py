"""The patch that was clicked: its picture, what it resembles, where its probability is from, and a verdict on it."""

from __future__ import annotations

import io

import polars as pl
import streamlit as st
from PIL import Image

from lake.choices import Role, lake_path
from lake.contact_sheet import show
from lake.places import Place, patches_at
from lake.sql_files import query
from lake.table_files import of_slide
from udfs.errors import HistolakeError
from udfs.slide_cache import is_here
from viewer.audited import record_opening, who
from viewer.login import login
from viewer.person import is_active, person
from viewer.reading import Lake, Row, connection, refresh
from viewer.slides import model, slide
from viewer.text import escaped

NEIGHBOURS = 8
COMPARED = 50_000  # patches at most that neighbours are looked for among
PATCH_PX = 160
VIEW_PX = 256
WIDER = (1.0, 2.0, 4.0)  # times the patch's own extent
CLASS = {1: "tumor", 0: "normal", None: "not labelled"}

_kept = st.cache_data(max_entries=32, show_spinner=False)


def find_patch(lake: Lake, asked: Row) -> Row:
    """The patch that a click means, with its probability, label and file.

    asked: slide_id, model_id and patch_set (None where nothing is scored), x, y: level-0 pixels.
    Raises HistolakeError where no patch is.
    """
    slide_id = asked["slide_id"]
    scored = model(lake, slide_id, asked["model_id"]) if asked["model_id"] else None
    with connection(lake) as con, of_slide(con, slide_id):
        [patch] = patches_at(con, [Place(slide_id, asked["x"], asked["y"])], scored, asked["patch_set"])
    facts = slide(lake, slide_id)
    told = {name: facts[name] for name in ("path", "mpp_x", "mpp_y")}
    return {**patch, **told, "threshold": scored["threshold"] if scored else None}


def show_patch(lake: Lake, patch: Row) -> None:
    """Show a patch that `find_patch` found."""
    picture, verdict = st.columns([3, 2], gap="medium")
    with picture:
        st.subheader(f"Patch at {patch['x']:,}, {patch['y']:,}")
        st.markdown(escaped(_facts(patch)))
        st.image(_close_up(patch), output_format="PNG", alt="The patch at its own extent, and wider")
    with verdict:
        _ask_verdict(lake, patch)
    if patch["probability"] is not None:
        _show_neighbours(lake, patch)
        _show_origin(lake, patch)


def _facts(patch: Row) -> str:
    label = CLASS[patch["label"]]
    if patch["probability"] is None:
        return f"No probability, label: {label}"
    called = f"{_call(patch)} at the threshold {patch['threshold']:.3g}"
    return f"Probability {patch['probability']:.3f}: {called}; label: {label}"


def _call(patch: Row) -> str:
    return "tumor" if patch["probability"] >= patch["threshold"] else "normal"


def _close_up(patch: Row) -> Image.Image:
    frame = pl.DataFrame([patch]).drop("probability", "label")
    if not patch["mpp_x"] or not patch["mpp_y"]:
        return show(frame, patch_px=VIEW_PX)
    own = patch["span_x"] * patch["mpp_x"] / VIEW_PX
    return show(frame, mpp=[float(f"{own * factor:.3g}") for factor in WIDER], patch_px=VIEW_PX)


def _show_neighbours(lake: Lake, patch: Row) -> None:
    st.subheader("Most alike across the lake")
    with st.spinner("Comparing features …"):
        found = _neighbours(lake, patch["slide_id"], patch["patch_set"], patch["x"], patch["y"], patch["model_id"])
    if found.is_empty():
        st.caption("No other patch has features of this encoder yet.")
        return
    at_hand = found.filter(pl.Series([is_here(path) for path in found["path"]], dtype=pl.Boolean))
    if at_hand.height < found.height:
        names = ", ".join(sorted(set(found["slide_id"]) - set(at_hand["slide_id"])))
        st.caption(escaped(f"{found.height - at_hand.height} more are on slides that this machine lacks: {names}."))
    if at_hand.is_empty():
        return
    found = at_hand
    record_opening(lake, found["slide_id"].unique(), {"what": "patches alike"})
    alike = ", ".join(f"{value:.3f}" for value in found["similarity"])
    sheet = show(found, patch_px=PATCH_PX)
    st.image(sheet, output_format="PNG", alt="The patches whose features are the most alike")
    st.caption(f"Cosine similarity: {alike}. Compared with up to {COMPARED:,} patches of the same encoder.")


@_kept
def _neighbours(lake: Lake, slide_id: str, patch_set: str, x: int, y: int, model_id: str) -> pl.DataFrame:
    where = {"slide_id": slide_id, "patch_set": patch_set, "x": x, "y": y, "model_id": model_id}
    with connection(lake) as con:
        return con.execute(query("app/neighbours"), {**where, "patches": COMPARED, "neighbours": NEIGHBOURS}).pl()


def _show_origin(lake: Lake, patch: Row) -> None:
    with st.expander("Where this comes from"):
        where = (patch["slide_id"], patch["patch_set"], patch["x"], patch["y"], patch["model_id"])
        try:
            st.code(_explained(lake, *where), language=None)
        except HistolakeError as error:
            st.error(escaped(str(error)))


@_kept
def _explained(lake: Lake, slide_id: str, patch_set: str, x: int, y: int, model_id: str) -> str:
    """What `histolake explain` prints."""
    from rich.console import Console  # these are seldom needed, and slow to import

    from lake.trace import explain
    from lake.trace_tree import tree

    root = lake_path(lake.root)
    found = explain(root, slide_id, x, y, model=model_id, patch_set=patch_set)
    paper = Console(file=io.StringIO(), width=120)
    with paper.capture() as captured:
        paper.print(tree(found, root))
    return captured.get()


def _ask_verdict(lake: Lake, patch: Row) -> None:
    judge = person()
    if not judge.role.may(Role.analyst):
        return
    st.subheader("Your verdict")
    verdicts = _verdicts(patch)
    with st.form("verdict", border=False):
        said = st.radio("Is the model right?", list(verdicts), format_func=verdicts.__getitem__, horizontal=True)
        note = st.text_input("Note", max_chars=500)
        reviewer = judge.name if login() else _ask_name()
        is_sent = st.form_submit_button("Save verdict")
    if not is_sent:
        return
    is_active()  # a fragment's run is not the page's
    if not reviewer.strip():
        st.error("Write your name: a verdict without one cannot be asked about.")
        return
    st.session_state["reviewer"] = reviewer.strip()
    _save(lake, patch, said, note.strip() or None, reviewer.strip())
    st.success(f"Saved: {said}. The lake's table reviews keeps it, beside earlier ones.")


def _ask_name() -> str:
    return str(st.text_input("Your name", value=st.session_state.get("reviewer", ""), max_chars=100))


def _verdicts(patch: Row) -> dict[str, str]:
    """Words of the table reviews, as the reviewer reads them: of a scored patch, whether the model is right."""
    if patch["probability"] is None:
        return {"tumor": "tumor", "normal": "normal", "unsure": "unsure"}
    call = _call(patch)
    other = "normal" if call == "tumor" else "tumor"
    return {call: f"agree: {call}", other: f"disagree: {other}", "unsure": "unsure"}


def _save(lake: Lake, patch: Row, verdict: str, note: str | None, reviewer: str) -> None:
    from lake import reviews
    from lake.store import new_run_id

    place = Place(patch["slide_id"], patch["x"], patch["y"])
    said = [reviews.Verdict(place, verdict, note, reviewer)]
    root = lake_path(lake.root)
    which = {"model": patch["model_id"], "patch_set": patch["patch_set"]}
    reviews.review(root, said, **which, run_id=new_run_id(), who=who(person()))
    refresh()  # the page's own writing is no change to hint at
