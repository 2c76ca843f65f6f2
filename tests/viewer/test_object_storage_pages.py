"""The app on a lake in object storage, on a real server over a socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import object_stores
import pytest
from object_stores import clean_environment
from support import TestLake

ADDRESS = "s3://bucket/app/lake"


@pytest.fixture
def shared_lake(full_lake: TestLake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The finished lake, copied into a bucket."""
    with object_stores.moto(tmp_path) as server:
        for name in set(os.environ) - set(clean_environment()):
            monkeypatch.delenv(name)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
            monkeypatch.setenv(name, str(tmp_path / name))
        server.put(full_lake.root, "app/lake")
        yield ADDRESS


@pytest.mark.slow
def test_every_page_reads_the_lake(shared_lake: str, open_page) -> None:  # type: ignore[no-untyped-def]
    worklist = open_page(shared_lake, "worklist")
    assert worklist.dataframe
    viewer = open_page(shared_lake, "viewer", slide="tumor_1")
    assert not viewer.error
    for page in ("models", "sql", "lineage"):
        assert not open_page(shared_lake, page).error
