"""Damaged slides, every kind of damage at least once: the short form of `make bad-slides`."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from support import ROOT, SHARED

MUTANTS, SEED = 60, 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_damaged_slides_harm_nobody_and_show_nothing_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    suite, mutants = importlib.import_module("bad_slides"), importlib.import_module("slide_mutants")
    findings = suite.attack(tmp_path, MUTANTS, SEED)
    assert findings.broken == []
    kinds = {**mutants.IN_TIFF, **mutants.OF_FILES, **(mutants.IN_DICOM if SHARED.is_dir() else {})}
    assert set(findings.outcomes) >= set(kinds)
    assert sum(counts.total() for counts in findings.outcomes.values()) == MUTANTS
    for outcome in ("ok", "some patches unreadable", "failed"):
        assert any(counts[outcome] for counts in findings.outcomes.values())
    assert findings.patches["as in the sound slide"] > 100
