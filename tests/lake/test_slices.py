"""How a unit's rows are cut for the functions."""

import functools
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lake import compute, session
from lake.sql_files import stages
from udfs.registry import UDFS, Udf


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


@pytest.mark.parametrize("of_connection", [lambda con: con, session.cursor], ids=["connection", "cursor"])
def test_all_threads_go_on_computing_however_large_the_answer(of_connection, monkeypatch):
    """DuckDB lets a thread do no more once 1 MB of the answer waits: the other then did what was left."""
    monkeypatch.setattr(session, "cores", lambda: 2)
    rounds, slices, rows, dims = 4, 32, 64, 1280
    computed = Counter()

    def embed(number):
        time.sleep(0.02)
        computed[threading.get_ident()] += 1
        return pa.ListArray.from_arrays(np.arange(0, (rows + 1) * dims, dims), np.zeros(rows * dims, np.float32))

    patches = pa.Table.from_batches(pa.table({"number": np.arange(slices * rows)}).to_batches(max_chunksize=rows))
    least = 0
    with session.new_connection() as con:
        Udf("embed", (("number", "BIGINT"),), "FLOAT[]", "", embed).register(con)
        for _ in range(rounds):
            computed.clear()
            asked = of_connection(con)
            asked.register("patches", patches)
            asked.execute("select embed(number) from patches").to_arrow_table()
            least += min(computed.values()) if len(computed) == 2 else 0
    assert least > 0.85 * rounds * slices / 2
