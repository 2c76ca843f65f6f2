"""Runs Python in a process with little memory and little time, for files that are made to take all of both."""

from __future__ import annotations

import os
import sys

from support import ROOT, Answer, run

LIMIT = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)),) * 2); "
FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2", "MALLOC_ARENA_MAX": "2"}


def confined(code: str, *words: str, gigabytes: float = 3, seconds: float = 600) -> Answer:
    """Run `code` with these words in sys.argv[1:]; fails the test when it takes longer."""
    call = [sys.executable, "-c", LIMIT + code, str(int(gigabytes * 2**30)), *words]
    done = run(call, env={**os.environ, **FEW_THREADS, "PYTHONPATH": str(ROOT)}, timeout=seconds)
    return Answer(done.returncode, done.stdout, done.stderr)


def confined_command(*words: str, gigabytes: float = 3, seconds: float = 600) -> Answer:
    """Run `histolake WORDS` so."""
    code = "sys.argv[0] = 'histolake'; from lake.cli import main; main()"
    return confined(code, *words, gigabytes=gigabytes, seconds=seconds)
