"""The lake: tables, stages, and what is made from them.

`lake.connect("data").sql("select slide_id, count(*) from patches group by all")` is all it takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lake.contact_sheet import show
    from lake.session import connect, read
    from udfs.errors import HistolakeError

__all__ = ["HistolakeError", "connect", "read", "show"]

_HOMES = {
    "HistolakeError": "udfs.errors",
    "connect": "lake.session",
    "read": "lake.session",
    "show": "lake.contact_sheet",
}


def __getattr__(name: str) -> Any:
    """A name of the package, from where it is at home: imported when it is asked for, as the imports take time."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
