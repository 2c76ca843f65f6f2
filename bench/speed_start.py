"""How long histolake takes to start: the command line's help, and opening a lake of 10,000 files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import lakes
import race
from race import Figure

from lake import session

SLIDES = 370  # of 100,000 patches: 27 files each in all
HELP_S = 0.4
CONNECT_S = 0.5

OPENED = "import sys, lake; lake.connect(sys.argv[1])"


def measure(folder: Path) -> list[Figure]:
    """Lines of the table; the lake is generated into the folder unless it is there.

    Processes are timed before that, not while the system still writes its files.
    """
    helped = race.seconds(partial(race.in_process, ["-m", "lake", "--help"]))
    started = race.seconds(partial(race.in_process, ["-c", "import lake"]))
    root = folder / "lake-start"
    if not lakes.is_whole(root):
        lakes.write(root, lakes.alike(SLIDES, 100_000), tables=tuple(lakes.IDENTITIES))
    files = sum(1 for _ in root.rglob("*.parquet"))
    with session.connect(root, udfs=()) as con:
        [(entries,)] = con.table("runs").count("*").fetchall()
    return [
        Figure("`histolake --help`", "s", helped, at_most=HELP_S),
        Figure("`import lake`", "s", started, note="a process of its own, from its start to its end"),
        Figure(
            "`lake.connect()`",
            "s",
            race.seconds(partial(session.connect, root)),
            at_most=CONNECT_S,
            note=f"{files:,} files, {entries:,} entries in the ledger; the lake was opened before",
        ),
        Figure(
            "`lake.connect()` in a new process",
            "s",
            race.seconds(partial(race.in_process, ["-c", OPENED, str(root)])),
            note="imports included",
        ),
    ]
