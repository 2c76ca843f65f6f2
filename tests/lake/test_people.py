"""The table of who has which role in the app."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from audit_writers import full_disk
from support import TestLake

from lake import connect, people, store
from lake.choices import Role
from udfs.errors import HistolakeError, LakeError


def test_a_person_has_one_role_at_a_time_and_may_lose_it(lake: TestLake) -> None:
    lake.ok("people", "set", "Alice@Example.org", "viewer")
    lake.ok("people", "set", "alice@example.org ", "admin")
    lake.ok("people", "set", "8f3A-subject", "analyst")
    assert people.roles(lake.root) == {"8f3A-subject": Role.analyst, "alice@example.org": Role.admin}
    assert lake.ok("people", "list", "--json").json()[1] == {"person": "alice@example.org", "role": "admin"}
    lake.ok("people", "remove", "ALICE@example.org")
    assert people.roles(lake.root) == {"8f3A-subject": Role.analyst}


def test_who_gave_and_took_a_role_is_in_the_audit_table_and_not_in_the_ledger(lake: TestLake) -> None:
    lake.ok("people", "set", "alice@example.org", "viewer")
    lake.ok("people", "set", "alice@example.org", "admin")
    lake.ok("people", "remove", "alice@example.org")
    told = lake.read("audit").sort("sequence").filter(action="appointed")
    assert told["object"].to_list() == ["alice@example.org"] * 3
    assert [json.loads(each) for each in told["details"]] == [
        {"role": "viewer", "before": None},
        {"role": "admin", "before": "viewer"},
        {"role": None, "before": "admin"},
    ]
    assert not [row for row in lake.read("runs").rows() if "alice" in str(row)]
    with connect(lake.root, udfs=()) as con, pytest.raises(duckdb.Error):
        con.execute("from people")


def test_a_role_that_cannot_be_recorded_is_not_given(lake: TestLake) -> None:
    with full_disk():
        assert "It was not done" in lake("people", "set", "alice", "admin").err
    assert people.roles(lake.root) == {}


def test_who_has_no_role_cannot_lose_it_and_nobody_gets_none(lake: TestLake) -> None:
    with pytest.raises(HistolakeError, match="bob: has no role"):
        people.remove(lake.root, "bob")
    with pytest.raises(HistolakeError, match="name is empty"):
        people.set_role(lake.root, " ", Role.admin)
    assert lake.read("people").is_empty()


def test_an_older_lake_gets_the_table_by_optimize(lake: TestLake) -> None:
    shutil.rmtree(lake.root / "people")
    with pytest.raises(LakeError, match="`histolake optimize`"):
        people.set_role(lake.root, "alice", Role.admin)
    lake.ok("optimize")
    people.set_role(lake.root, "alice", Role.admin)
    assert people.roles(lake.root) == {"alice": Role.admin}


def test_without_a_lake_nobody_has_a_role(tmp_path: Path) -> None:
    assert people.roles(tmp_path / "nowhere") == {}
    assert not store.is_lake(tmp_path / "nowhere")
