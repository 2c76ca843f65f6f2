"""A Delta table in a folder, whose files have the names that they have there."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable


class FolderTable(DeltaTable):
    """Deltalake tells files as parts of addresses, a space as %20; Polars asks for them, and opens what it is told."""

    def file_uris(self, *conditions: Any, **pruning: Any) -> list[str]:
        """Paths of the version's files."""
        return [unquote(file) for file in super().file_uris(*conditions, **pruning)]
