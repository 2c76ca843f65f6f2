"""The command `histolake` in a process that kills itself at a chosen point: `chaos_child.py POINT NUMBER WORDS…`.

Nothing in histolake knows of it: functions are wrapped here, before the command starts. Commits come at once, the
ledger is tidied and checkpoints are written after a few, so that there is much to be killed in.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from lake import cli, commits, storage, store

LEDGER_FILES, CHECKPOINT_COMMITS = 5, "8"
LEDGER = "runs"
WRITE = "lake.store:write_deltalake"

Folder = Callable[..., Path | None]


def die() -> None:
    """End this process as a lost machine does: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def any_call(*_: Any, **__: Any) -> Path | None:
    """For functions of which every call counts."""
    return Path()


def of_data(table: Any, *_: Any, **__: Any) -> Path | None:
    """The folder of the table that is written to, where it is not the ledger's."""
    folder = Path(unquote(urlparse(table.table_uri).path))
    return folder if folder.name != LEDGER else None


def of_ledger(table: Any, *_: Any, **__: Any) -> Path | None:
    """The folder of the table that is written to, where it is the ledger's."""
    folder = Path(unquote(urlparse(table.table_uri).path))
    return folder if folder.name == LEDGER else None


def compacted(root: Path, name: str, *_: Any) -> Path | None:
    """The folder of the table that is compacted."""
    return root / name


def before(place: str, number: int, folder: Folder = any_call) -> None:
    """Die before the call of that number of a function, `module:name` or `module:Class.name`."""
    _wrap(place, number, folder, lambda whole, _, args, named: die())


def after(place: str, number: int, folder: Folder = any_call) -> None:
    """Die when the call of that number has done its work, before anybody hears of it."""

    def then(whole: Callable[..., Any], _: Path, args: Any, named: Any) -> None:
        whole(*args, **named)
        die()

    _wrap(place, number, folder, then)


def amid(place: str, number: int, folder: Folder, pattern: str) -> None:
    """Die within, or soon after, the call of that number: once a file of that pattern has come to the table's folder.

    The files of a commit are there before its entry in the log is; a thread looks for them without a pause.
    """

    def then(whole: Callable[..., Any], table: Path, args: Any, named: Any) -> Any:
        looks = threading.Event()
        threading.Thread(target=_die_at, args=(table, pattern, looks), daemon=True).start()
        looks.wait()
        return whole(*args, **named)

    _wrap(place, number, folder, then)


def _die_at(table: Path, pattern: str, looks: threading.Event) -> None:
    known = set(table.glob(pattern))
    looks.set()
    while known.issuperset(table.glob(pattern)):
        pass
    die()


def _wrap(place: str, number: int, folder: Folder, then: Callable[..., Any]) -> None:
    """Have `then` in the place of the call of that number, of those that `folder` knows a table's folder for."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    whole, left = getattr(owner, name), number

    def call(*args: Any, **named: Any) -> Any:
        nonlocal left
        table = folder(*args, **named)
        left -= table is not None
        if table is not None and left == 0:
            return then(whole, table, args, named)
        return whole(*args, **named)

    setattr(owner, name, call)


FILE, CHECKPOINT = "*/*.parquet", "_delta_log/*.checkpoint*.parquet"
POINTS: dict[str, Callable[[int], None]] = {
    "at a random moment": lambda _: None,
    "while the lake is made": lambda number: before("lake.creation:create_table", number),
    "before a commit": lambda number: before(WRITE, number, of_data),
    "between data files and log entry": lambda number: amid(WRITE, number, of_data, "**/*.parquet"),
    "between commit and ledger": lambda number: before("lake.store:record", number),
    "during the ledger write": lambda number: amid(WRITE, number, of_ledger, FILE),
    "while the ledger is tidied": lambda number: amid("lake.store:compact", number, compacted, FILE),
    "while a checkpoint is written": lambda number: amid(WRITE, number, of_ledger, CHECKPOINT),
    "while MLflow's database is made": lambda number: before("alembic.ddl.impl:DefaultImpl._exec", 20 * number),
    "while MLflow logs": lambda number: before("mlflow:log_metric", number),
    "before the model is registered": lambda number: before("lake.models:register", number),
    "before the model's file": lambda number: before("lake.model_files:write", number),
    "between the model's file and the model": lambda number: after("lake.model_files:write", number),
    "between MLflow's champion and the lake's": lambda number: after("lake.models:_point_alias", number),
}


def main() -> None:
    """Prepare the end, and start the command."""
    point, number, *words = sys.argv[1:]
    commits.COMMIT_SECONDS, commits.SHARE = 0.0, 0
    store.LEDGER_FILES = LEDGER_FILES
    setattr(storage, "configuration", lambda _: {"delta.checkpointInterval": CHECKPOINT_COMMITS})  # noqa: B010
    POINTS[point](int(number))
    sys.argv[1:] = words
    cli.main()


if __name__ == "__main__":
    main()
