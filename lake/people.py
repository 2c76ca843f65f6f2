"""Who may do what in the app, where the login provider does not tell: the table people."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa

from lake import audit, creation, store
from lake.audit import Action, Deed
from lake.choices import Role
from lake.store import Replacement
from lake.tables import PEOPLE
from udfs.errors import HistolakeError, LakeError


def people(root: Path) -> pl.DataFrame:
    """Everybody who has a role: person, role. Raises LakeError when there is no lake, or one of an older histolake."""
    if store.is_lake(root) and not creation.is_complete(root):
        raise LakeError(f"{root}: made by an older histolake; `histolake optimize` gives it the tables it lacks")
    return store.rows(root, "people").sort("person")


def roles(root: Path) -> dict[str, Role]:
    """The role of each person; nobody has one where there is no lake."""
    if not store.is_lake(root):
        return {}
    return {person: Role(role) for person, role in people(root).select("person", "role").rows()}


def set_role(root: Path, person: str, role: Role) -> None:
    """Give a person a role, in the place of the one they have. person: see `named`. Raises LakeError as `people`."""
    row = {"person": named(person), "role": role.value}
    before = _role(root, row["person"])
    appointed = Deed(Action.appointed, object=row["person"], details={"role": row["role"], "before": before})
    audit.record(root, audit.user(), appointed)
    _put(root, row["person"], pa.Table.from_pylist([row], schema=PEOPLE.schema))


def remove(root: Path, person: str) -> None:
    """Take a person's role away. Raises HistolakeError for one who has none."""
    name = named(person)
    before = _role(root, name)
    if before is None:
        raise HistolakeError(f"people remove {name}: has no role; `histolake people list` shows who has one")
    appointed = Deed(Action.appointed, object=name, details={"role": None, "before": before})
    audit.record(root, audit.user(), appointed)
    _put(root, name, PEOPLE.schema.empty_table())


def _role(root: Path, person: str) -> str | None:
    return dict(people(root).select("person", "role").rows()).get(person)


def _put(root: Path, person: str, rows: pa.Table) -> None:
    """Commit rows in the place of the person's: without a word in the ledger, which everybody may read."""
    store.replace(root, PEOPLE.name, rows, [Replacement({"person": person})], [])


def named(person: str) -> str:
    """The person as the table has them: an e-mail address in lower case, a subject as the provider spells it.

    Raises HistolakeError for nobody.
    """
    name = person.strip()
    if not name:
        raise HistolakeError("a person's name is empty: give an e-mail address, or the subject of their login")
    return name.lower() if "@" in name else name
