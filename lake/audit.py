"""Who did what, when, and on which versions: the table audit, see docs/audit.md.

A deed is recorded before it is done, and what cannot be recorded is not done.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from lake import storage, store
from lake.audit_chain import chain
from lake.tables import AUDIT
from udfs.errors import AuditError, LakeError, MachineError

LONGEST = 100_000  # characters of a text; what is cut off says so


class Action(StrEnum):
    """What was done; docs/audit.md says when each is written."""

    logged_in = "logged in"
    logged_out = "logged out"
    denied = "denied"
    opened = "opened"
    exported = "exported"
    queried = "queried"
    answered = "answered"
    reviewed = "reviewed"
    promoted = "promoted"
    appointed = "appointed"
    regrouped = "regrouped"
    vacuumed = "vacuumed"


@dataclass(frozen=True)
class Who:
    """Who does it. subject: what tells a person from all others. name, role: where they are told. via: app or cli."""

    subject: str
    name: str | None
    role: str | None
    via: str


@dataclass(frozen=True)
class Deed:
    """What is done: to which slide, to which model, statement, file, table or page, and what else there is to say.

    versions: Delta version of the tables that are shown; the ledger's alone is a whole moment, by default that of now.
    """

    action: Action
    slide_id: str | None = None
    object: str | None = None
    versions: Mapping[str, int] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def user() -> Who:
    """Who is at this machine, as the system tells."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # which of them differs between versions of Python
        name = f"uid {os.getuid()}"
    return Who(name, None, None, "cli")


def record(root: Path, who: Who, *deeds: Deed) -> None:
    """Add deeds to the table, all or none; returns when they are there.

    Raises AuditError when they cannot be written: they must not be done then.
    """
    try:
        now = {"runs": int(Path(store.newest_commit(root, "runs")[0]).stem)}
        at = datetime.now(UTC)
        chain(root).add([_row(at, who, deed, now) for deed in deeds])
    except (LakeError, MachineError) as error:
        why = str(error)
        with suppress(LakeError, OSError):  # where nothing can be read, what was said already stands
            if store.is_lake(root) and AUDIT.name not in storage.tables(root):
                why = f"{root}: made by an older histolake; `histolake optimize` gives it the tables it lacks"
        raise AuditError(f"{why}. It was not done, for it cannot be recorded") from error


def record_export(
    root: Path,
    what: str,
    files: Mapping[str, Path],
    versions: Mapping[str, int] | None = None,
    model_id: str | None = None,
) -> None:
    """Record that this machine's user has files written of these slides, by slide_id. Raises AuditError as `record`.

    versions: of the tables that the connection sees which reads them; by default those of now.
    """
    moment = None if versions is None else {"runs": versions["runs"]}
    details = {"what": what} | ({"model_id": model_id} if model_id else {})
    deeds = [Deed(Action.exported, slide_id, str(file), moment, details) for slide_id, file in files.items()]
    record(root, user(), *deeds)


def _row(at: datetime, who: Who, deed: Deed, now: Mapping[str, int]) -> dict[str, Any]:
    return {
        "recorded_at": at,
        "subject": _text(who.subject),
        "name": _text(who.name),
        "role": _text(who.role),
        "via": who.via,
        "action": deed.action.value,
        "slide_id": _text(deed.slide_id),
        "object": _text(deed.object),
        "versions": json.dumps(dict(now if deed.versions is None else deed.versions), sort_keys=True),
        "details": json.dumps(dict(deed.details), sort_keys=True, default=str),
    }


def _text(value: str | None) -> str | None:
    """As a column can hold it: of names of files what is no character is escaped, and very long texts are cut."""
    if value is None:
        return None
    plain = value.encode(errors="backslashreplace").decode()
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}… ({len(plain):,} characters)"
