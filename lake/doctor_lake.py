"""Whether the lake can be reached, written and trusted: its tables, its storage, its clock, its MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from uuid import uuid4

from lake import creation, session, storage, store
from lake.doctor_notes import Note, error, ok, warning
from lake.storage_faults import fault

PROBE_BYTES = 2**20  # as large as a small Parquet file: a full disk has no room for it
SKEW, MOST_SKEW = 5.0, 60.0  # seconds; object stores refuse what is signed a quarter of an hour beside their time
SECONDS = 10.0  # that a storage server may take to answer
SET_CLOCK = "let the clock be set by NTP, on this machine and on the storage server: `timedatectl set-ntp true`"


def tables(root: Path) -> Iterator[Note]:
    """Whether there is a lake, of which format, and the version of every table."""
    if root.exists() and not root.is_dir():
        yield error(f"{root} is a file", "name a folder by --lake")
    elif not store.is_lake(root):
        yield warning(f"no lake in {root}", "make one with `histolake ingest`, or name another by --lake")
    elif not creation.is_complete(root):
        yield warning(f"{root}: made by an older histolake", "give it the tables it lacks with `histolake optimize`")
    else:
        with session.connect(root, udfs=()) as con:
            versions = ", ".join(f"{name} {number}" for name, number in session.versions(con).items())
        yield ok(f"{root}: format {store.setting(root, 'format')}, versions {versions}")


def writing(root: Path) -> Iterator[Note]:
    """Whether a file can be written where the lake is, read again and removed."""
    content = os.urandom(PROBE_BYTES)
    with _probe(root) as file:
        try:
            file.write_bytes(content)
            is_same = file.read_bytes() == content
            file.unlink()
        except OSError as failure:
            remedy = fault(failure) if storage.is_remote(root) else None
            yield error(
                f"{file.parent} cannot be written: {failure.strerror or failure}",
                remedy or f"let the user {os.getuid()} write there and make room, or name another place by --lake",
            )
            return
        if not is_same:
            yield error(f"{file.parent}: what is read is not what was written", "do not use this storage")
        elif file.exists():
            yield error(f"{file.parent}: what was removed is still there", "do not use this storage")
        else:
            yield ok(f"{PROBE_BYTES:,} bytes written in {file.parent}, read again and removed")


def creating_once(root: Path) -> Iterator[Note]:
    """Whether of two that create the same file one is told so: Delta's commits rest on it."""
    if storage.is_remote(root):
        storage.prove(root)
        yield ok(f"{storage.server()} refuses to create an object that is there")
        return
    with _probe(root) as file:
        with file.open("xb") as created:
            created.write(b"first")
        try:
            with file.open("xb") as created:
                created.write(b"second")
        except FileExistsError:
            yield ok("a file that is there is not created again")
        else:
            yield error(
                f"{file.parent}: a file was created twice",
                "do not let two processes write to a lake there: commits would be lost without a word",
            )


def clock(root: Path) -> Iterator[Note]:
    """How far this machine's clock is from that of the storage: the ledger's newest row is what counts."""
    if storage.is_remote(root):
        yield _of_skew(server_skew(storage.server()), f"of {storage.server()}")
        return
    with _probe(root) as file:
        before = time.time()
        file.touch()
        yield _of_skew(before - file.stat().st_mtime, f"of the file system of {file.parent}")


def server_skew(address: str) -> float:
    """Seconds that this machine's clock is ahead of the server's, within a second; a refusal tells its time, too."""
    import requests

    told = requests.head(address, timeout=SECONDS).headers["Date"]
    return time.time() - parsedate_to_datetime(told).timestamp()


def _of_skew(ahead: float, whose: str) -> Note:
    if abs(ahead) <= SKEW:
        return ok(f"within {SKEW:.0f} s {whose}")
    told = f"{abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'} {whose}"
    return (error if abs(ahead) > MOST_SKEW else warning)(told, SET_CLOCK)


def ledger(root: Path) -> Iterator[Note]:
    """Whether the ledger has rows of the future: until then, what is done is written down as done just after them."""
    if not store.is_lake(root):
        return
    with session.connect(root, udfs=()) as con:
        [(newest, entries)] = con.table("runs").aggregate("max(finished_at), count(*)").pl().rows()
    now = datetime.now(UTC)
    if newest is not None and newest > now + timedelta(seconds=SKEW):
        yield error(
            f"its newest entry is of {newest:%Y-%m-%d %H:%M:%S} UTC, here it is {now:%Y-%m-%d %H:%M:%S}",
            f"find the machine that wrote it, `histolake history runs`; {SET_CLOCK}",
        )
    else:
        yield ok(f"{entries:,} entries" + (f", the newest of {newest:%Y-%m-%d %H:%M:%S} UTC" if newest else ""))


def mlflow(root: Path) -> Iterator[Note]:
    """Whether the lake's MLflow opens, and the champion can be loaded from it."""
    from lake import mlflow_runs, models

    if not store.is_lake(root):
        return
    found = mlflow_runs.runs(root)
    champion = models.champion(root)
    if champion is None:
        yield ok(f"{len(found)} runs, no champion yet")
        return
    models.load_model(root, champion)
    if not found:
        yield error(f"{root / 'mlflow'}: no run of the champion {champion}", "restore the folder from a backup")
    else:
        yield ok(f"{len(found)} runs; the champion {champion} loads")


@contextmanager
def _probe(root: Path) -> Iterator[Path]:
    """A name for a file in the lake, or in the folder in which the lake would be made; it is removed again."""
    folder = root if storage.is_remote(root) else next(each for each in (root, *root.parents) if each.exists())
    file = folder / f".histolake-doctor-{uuid4().hex}"
    try:
        yield file
    finally:
        with suppress(OSError):  # where it could not be made it is not there
            file.unlink()
