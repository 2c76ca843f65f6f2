"""What the groups of annotation files mean: the table annotation_groups, and the annotations that follow from it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lake import audit, session, store
from lake.choices import Meaning
from lake.sql_files import query
from lake.store import Replacement
from lake.tables import TABLES
from udfs.errors import AnnotationError

COLUMNS: dict[Meaning, tuple[int | None, bool]] = {  # label, is_exclusion
    Meaning.tumor: (1, False),
    Meaning.normal: (0, False),
    Meaning.exclusion: (None, True),
    Meaning.none: (None, False),
}


def meanings(root: Path) -> pl.DataFrame:
    """Every group that is known or occurs: group_name, meaning, annotations, slides."""
    with session.connect(root, udfs=()) as con:
        return con.execute(query("groups/meanings")).pl()


def set_meaning(root: Path, name: str, meaning: Meaning, run_id: str) -> int:
    """Give the group its meaning, in the table and in the annotations that are there; returns how many changed.

    What has the meaning already is not written. Raises AnnotationError for a name of nothing.
    """
    group = name.strip().lower()
    if not group:
        raise AnnotationError("a group's name is empty; `histolake groups list` shows those that occur")
    label, is_exclusion = COLUMNS[meaning]
    row = {"group_name": group, "label": label, "is_exclusion": is_exclusion}
    if row not in store.rows(root, "annotation_groups").to_dicts():
        regrouped = audit.Deed(audit.Action.regrouped, object=group, details={"meaning": meaning.value})
        audit.record(root, audit.user(), regrouped)
        store.put(root, "annotation_groups", [row], run_id)
    with session.connect(root, udfs=(), read_only=False) as con:
        changed = con.execute(query("groups/changed"), row).to_arrow_table()
    if changed.num_rows:
        spellings = [Replacement({"group_name": each}) for each in changed["group_name"].unique().to_pylist()]
        entry = store.entry("annotations", run_id=run_id, rows=changed.num_rows, parameters=row)
        store.replace(root, "annotations", changed.cast(TABLES["annotations"].schema), spellings, [entry])
    return int(changed.num_rows)
