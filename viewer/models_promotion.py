"""Which model is the champion, who made it so, and making another one the champion."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lake import models, store
from lake.choices import Role, lake_path
from viewer.audited import who
from viewer.gate import guarded
from viewer.models_reading import champion_history
from viewer.person import person
from viewer.reading import Lake, Row, refresh
from viewer.table import utc
from viewer.text import escaped

ASKED = "asked to promote"  # of the session: the model whose promotion waits for a yes

_COLUMNS = {
    "finished_at": utc("Since"),
    "model_id": st.column_config.TextColumn("Champion"),
    "reason": st.column_config.TextColumn("Reason", width="large"),
    "run_id": st.column_config.TextColumn("Run"),
    "version": st.column_config.NumberColumn("Version of settings", format="localized"),
    "code_version": st.column_config.TextColumn("histolake"),
}


def show_promotion(lake: Lake, model: Row) -> None:
    """Offer an admin to make the model the champion, unless it is or may not be; show who was before it."""
    if promoted := st.session_state.pop("promoted", None):
        st.toast(escaped(f"Model {promoted} is the champion."))
    if not model["is_champion"] and person().role is Role.admin:
        model_id, may_not = model["model_id"], model["protocol"] == "patch_random"
        why = "It has seen patches of test slides." if may_not else "Other pages then show this model by default."
        label = f"Make {model_id} the champion"
        st.button(label, key="promote", disabled=may_not, help=why, on_click=_ask, args=(model_id,))
        if st.session_state.get(ASKED) == model_id and not may_not:
            _confirm(lake, model)
    with st.expander("Champions so far"):
        history = champion_history(lake)
        if history.is_empty():
            st.info("No model has been the champion yet: `histolake train` makes its model the champion.")
        else:
            st.dataframe(history, hide_index=True, column_config=_COLUMNS, placeholder="")


def _ask(model_id: str) -> None:
    st.session_state[ASKED] = model_id


def _forget() -> None:
    st.session_state.pop(ASKED, None)


@st.dialog("Make this model the champion?", on_dismiss=_forget)
@guarded
def _confirm(lake: Lake, model: Row) -> None:
    before = models.champion(lake_path(lake.root))
    place = f" in the place of {before}" if before else ""
    st.markdown(
        escaped(
            f"Model {model['model_id']} ({model['head']}, {model['encoder_id']}) becomes the champion{place}. Every "
            "page and every command then shows it by default, for everybody. The ledger keeps it with the reason."
        )
    )
    reason = st.text_area("Reason", key="promotion reason", max_chars=500)
    yes, no = st.columns(2)
    if no.button("Leave it", key="leave champion", width="stretch"):
        _forget()
        st.rerun()
    if yes.button("Make champion", key="confirm promotion", type="primary", width="stretch"):
        promote(lake_path(lake.root), model["model_id"], reason)
        _forget()
        st.session_state["promoted"] = model["model_id"]
        refresh()
        st.rerun()


def promote(root: Path, model_id: str, reason: str | None = None) -> None:
    """Make a model the champion, as `histolake models promote` does. Raises HistolakeError for any role but admin."""
    admin = person()
    admin.require(Role.admin, "make a model the champion")
    why = (reason or "").strip() or None
    models.make_champion(root, models.find(root, model_id), store.new_run_id(), why, who(admin))
