"""How a unit's rows are cut for the functions."""

import functools
from dataclasses import replace

import pytest

from lake import compute
from lake.sql_files import stages
from udfs.registry import UDFS


def test_stages_that_crop_patches_are_known_by_their_sql(lake):
    found = {name for name, stage in stages(lake.root).items() if stage.reads_pixels}
    assert found == {"features", "patch_images"}


@pytest.fixture
def cropped(monkeypatch):
    """How many rows each call of crop got."""
    calls = []
    crop = UDFS["crop"]

    @functools.wraps(crop.function)
    def counted(*columns):
        calls.append(len(columns[0]))
        return crop.function(*columns)

    monkeypatch.setitem(UDFS, "crop", replace(crop, function=counted))
    monkeypatch.setattr(compute, "cores", lambda: 1)
    return calls


def test_few_patches_are_cropped_at_once(full_lake, cropped, monkeypatch):
    """A slice of patches is in memory several times, for every thread."""
    monkeypatch.setattr(compute, "PIXEL_ROWS", 3)
    monkeypatch.setattr(compute, "LEAST_SLICE", 1)
    full_lake.ok("run", "--patch-px", "64", "--mpp", "1.5", "--encoder", "tiny")
    assert sum(cropped) > 20
    assert max(cropped) == 3
