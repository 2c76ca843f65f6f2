"""Who logs in and out, and who is denied, is recorded, see lake/audit.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lake import audit, store
from lake.audit import Action, Deed, Who
from lake.choices import lake_path
from udfs.errors import LakeError

WINDOW_S = 60.0
MOST = 30  # denials of one subject that are recorded in that time; how many more there were, the next one tells
SUBJECTS = 10_000  # that are remembered

_counted: dict[str, tuple[float, int]] = {}  # of a subject: when its window began, and its denials since
_counting = threading.Lock()


def record_denial(subject: str, deed: str, why: str) -> None:
    """Record that somebody was denied a deed. Denied they are in any case, also where that cannot be recorded."""
    left_out = _left_out(subject)
    if left_out is None:
        return
    details = {"why": why} | ({"left_out": left_out} if left_out else {})
    with suppress(LakeError):
        audit.record(lake_path(), Who(subject, None, None, "app"), Deed(Action.denied, object=deed, details=details))


def record_login(claims: Mapping[str, Any]) -> str | None:
    """Record that somebody logs in, by what the provider says of them; why they may not, where that fails."""
    return _record_session(Action.logged_in, claims)


def record_logout(claims: Mapping[str, Any]) -> None:
    """Record that somebody logs out. Logged out they are in any case."""
    _record_session(Action.logged_out, claims)


def _record_session(action: Action, claims: Mapping[str, Any]) -> str | None:
    name = claims.get("name")
    try:
        root = lake_path()
        if store.is_lake(root):  # else there is nothing yet to be seen
            audit.record(root, Who(str(claims["sub"]), str(name) if name else None, None, "app"), Deed(action))
    except (LakeError, OSError) as error:
        return str(error)
    return None


def _left_out(subject: str) -> int | None:
    """How many denials were left out since the last one that was recorded; None when this one is, too."""
    now = time.monotonic()
    with _counting:
        if len(_counted) >= SUBJECTS and subject not in _counted:
            _counted.clear()
        began, count = _counted.get(subject, (now, 0))
        left_out = 0
        if now - began >= WINDOW_S:
            began, count, left_out = now, 0, max(0, count - MOST)
        _counted[subject] = (began, count + 1)
        return left_out if count < MOST else None
