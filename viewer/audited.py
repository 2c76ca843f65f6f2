"""What people do in the app is recorded before it is done, see lake/audit.py; what cannot be recorded is not done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import streamlit as st

from lake import audit
from lake.audit import Action, Deed, Who
from lake.choices import lake_path
from udfs.errors import HistolakeError
from viewer.person import Person, person, person_later
from viewer.reading import Lake

OPENED = "opened slides"  # of the session: which of which moment, by whom
NOT_SAVED = "files not saved"  # of the session: the sentences that say why


def who(known: Person) -> Who:
    """The person, as the audit table tells of them."""
    return Who(known.subject, known.name, known.role.value, "app")


def record(lake: Lake, deed: Deed, by: Person | None = None) -> None:
    """Record what a person does, by default the one whose page it is. Raises AuditError: it must not be done then."""
    audit.record(lake_path(lake.root), who(by or person()), deed)


def record_opening(lake: Lake, slide_ids: Iterable[str], details: Mapping[str, Any]) -> None:
    """Record that the person of the page opens slides; each once in their session, as long as the lake is the same.

    details: what of them is shown. Raises AuditError: they must not be shown then.
    """
    known: set[tuple[str, str, Lake]] = st.session_state.setdefault(OPENED, set())
    opener = person()
    new = {(opener.subject, slide_id, lake) for slide_id in slide_ids} - known
    if new:
        deeds = [Deed(Action.opened, slide_id, None, {"runs": lake.version}, details) for _, slide_id, _ in sorted(new)]
        audit.record(lake_path(lake.root), who(opener), *deeds)
        known |= new


def recorded_download(lake: Lake, file: str, details: Mapping[str, Any], make: Callable[[], Any]) -> Callable[[], Any]:
    """What a download button calls when it is clicked, outside the page: the file, once that it leaves is recorded.

    Whose login or role is gone by then does not get it.
    """
    deed, shown_to = f"save {file}", person()
    leaver = person_later(deed)
    not_saved: list[str] = st.session_state.setdefault(NOT_SAVED, [])

    def made() -> Any:
        try:
            who_leaves = leaver()
            who_leaves.require(shown_to.role, deed)
            record(lake, Deed(Action.exported, None, file, {"runs": lake.version}, details), who_leaves)
        except HistolakeError as error:
            not_saved.append(str(error))  # Streamlit itself says only that there is no file
            raise
        return make()

    return made


def take_not_saved() -> list[str]:
    """Why files were not saved since this was asked last."""
    held: list[str] = st.session_state.get(NOT_SAVED, [])
    told = list(held)
    held.clear()
    return told
