"""A process that reads a lake as long as it is let: connections, views, statements of the SQL page; see bench/soak.py.

`soak_reader.py LAKE`: prints for every round how many files it has open then, how many threads and processes; ends with
its standard input.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psutil

from lake import connect, workbench

STATEMENTS = (
    "select count(*) from slide_patches",
    "select stage, count(*) as entries from runs group by stage order by stage",
    "select slide_id, max(probability) as highest from current_predictions group by slide_id order by highest desc",
)


def main() -> None:
    """Read, round by round."""
    root, own = Path(sys.argv[1]), psutil.Process()
    is_over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait, daemon=True).start()
    while not is_over.is_set():
        with connect(root) as con:
            for statement in STATEMENTS:
                con.sql(statement).pl()
            con.sql("select avg(list_sum(embedding)) from slide_features").pl()
        for statement in STATEMENTS:
            workbench.start(root, statement).result()
        print(own.num_fds(), own.num_threads(), len(own.children()), flush=True)


if __name__ == "__main__":
    main()
