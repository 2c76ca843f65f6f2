"""What an event in the audit table takes, and verifying a million of them: into docs/guarantees.md.

`python bench/audit.py [PLACE …]`: folders, or addresses in object storage, to make lakes in; by default a folder for
temporary files.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import report
from deltalake import write_deltalake

from lake import audit, creation, storage, store
from lake.audit import Action, Deed, Who
from lake.audit_chain import Link, chain, linked
from lake.audit_reading import verify
from lake.choices import lake_path
from lake.tables import AUDIT

ONE_BY_ONE = 200  # events
THREADS, EACH = 16, 20
ROWS, AT_ONCE = 1_000_000, 50_000
SOMEONE = Who("subject", "Name", "viewer", "app")


def main() -> None:
    """Measure events at every place and a million of them in a folder, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        places = sys.argv[1:] or [folder]
        events = {_kind(place): _events(lake_path(f"{place}/audit-{number}")) for number, place in enumerate(places)}
        many = _many(lake_path(f"{folder}/many"))
    results = {"machine": report.machine(), "events": events, "many": many}
    report.write("audit", results, "guarantees.md", {"audit": _table(results)})


def _kind(place: str) -> str:
    return "a bucket" if storage.is_remote(place) else "a folder"


def _events(root: Path) -> dict[str, float]:
    """Milliseconds of an event by itself, and events a second of threads that come together."""
    creation.create(root)
    audit.record(root, SOMEONE, Deed(Action.opened, "slide"))
    before = time.process_time()
    taken = [_seconds_of_one(root) for _ in range(ONE_BY_ONE)]
    processor = (time.process_time() - before) / ONE_BY_ONE
    threads = [threading.Thread(target=lambda: [_seconds_of_one(root) for _ in range(EACH)]) for _ in range(THREADS)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = time.monotonic() - start
    whole = verify(root)
    if whole.problems or whole.events != 1 + ONE_BY_ONE + THREADS * EACH:
        raise SystemExit(f"{root}: the chain is not whole: {whole}")
    centiles = statistics.quantiles(taken, n=100)
    return {
        "median_ms": 1e3 * centiles[49],
        "p95_ms": 1e3 * centiles[94],
        "processor_ms": 1e3 * processor,
        "per_second": THREADS * EACH / together,
    }


def _seconds_of_one(root: Path) -> float:
    start = time.monotonic()
    audit.record(root, SOMEONE, Deed(Action.opened, "slide", details={"what": "slide"}))
    return time.monotonic() - start


def _many(root: Path) -> dict[str, Any]:
    """Seconds to verify ROWS events, and to add one more in a process that has not read their end."""
    creation.create(root)
    _seconds_of_one(root)
    first = store.rows(root, AUDIT.name).row(0, named=True)
    tip = Link(first["sequence"], first["hash"])
    for _ in range(ROWS // AT_ONCE):
        rows = linked([first] * AT_ONCE, tip)
        tip = Link(rows[-1]["sequence"], rows[-1]["hash"])
        table = store.open_table(root, AUDIT.name)
        write_deltalake(table, pa.Table.from_pylist(rows, schema=AUDIT.schema), mode="append")
    chain.cache_clear()
    one_more = _seconds_of_one(root)
    start = time.monotonic()
    whole = verify(root, tip.hash)
    seconds = time.monotonic() - start
    if whole.problems or whole.events != ROWS + 2:
        raise SystemExit(f"{root}: the chain is not whole: {whole}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rows": ROWS, "verify_s": seconds, "first_event_ms": 1e3 * one_more, "peak_gib": peak}


def _table(results: dict[str, Any]) -> str:
    tests = "`tests/lake/test_audit.py`"
    many = results["many"]
    events = "; ".join(
        f"in {place} {each['median_ms']:.0f} ms, of which {each['processor_ms']:.0f} of processor time "
        f"(95 %: {each['p95_ms']:.0f} ms), "
        f"{each['per_second']:.0f} a second of {THREADS} threads"
        for place, each in results["events"].items()
    )
    rows = [
        (
            "What cannot be recorded is not done: no slide is shown, no statement run, no file written, no model "
            "promoted, no verdict kept.",
            f"{tests}, `tests/viewer/test_audited.py`: full disk, read-only lake, bucket gone",
            f"an event takes {events}",
        ),
        (
            "A row that was changed, removed, put in, copied or moved is found; with a tip kept elsewhere also a chain "
            "that was cut off, or written anew.",
            f"{tests}: every column, and 12 other ways, in the Parquet file and in Delta's log",
            f"{many['rows']:,} rows are verified in {many['verify_s']:.1f} s; the first event after them takes "
            f"{many['first_event_ms']:.0f} ms",
        ),
        (
            "One chain, however many processes write: none is lost, none twice, also when one is killed at its commit.",
            f"{tests}: two processes, threads, kills; in object storage `tests/lake/test_object_storage.py`",
            "",
        ),
        ("Merging and vacuuming leave the chain as it is; a table that is gone is not made anew.", tests, ""),
    ]
    return report.grid(("promise", "test", "figure"), rows) + f"\n\nMeasured on {results['machine']}."


if __name__ == "__main__":
    main()
