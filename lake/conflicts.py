"""Writing beside other writers and compactions: tried again until none of them is in the way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from deltalake.exceptions import CommitFailedError, DeltaError

from lake import storage
from lake.storage_faults import fault, reason
from udfs.errors import LakeError
from udfs.exhaustion import raise_if_exhausted, shortage

ATTEMPTS = 20

T = TypeVar("T")


def persist(where: Path, attempt: Callable[[], T]) -> T:
    """Call `attempt` until no other writer is in its way, waiting a random, growing while in between.

    Raises LakeError naming `where` when it cannot be written, MachineError when the machine has run out of something.
    """
    storage.prove(where)
    for number in range(ATTEMPTS):
        try:
            return attempt()
        except (CommitFailedError, DeltaError) as error:
            if number == ATTEMPTS - 1 or not _is_conflict(error):
                raise_if_exhausted(error, f"{where}: cannot be written")
                raise LakeError(f"{where}: cannot be written: {reason(error)}") from error
            time.sleep(random.uniform(0, min(2.0, 0.05 * 2**number)))  # noqa: S311
        except OSError as error:
            raise_if_exhausted(error, f"{where}: cannot be written")
            raise LakeError(f"{where}: cannot be written: {reason(error)}") from error
    raise AssertionError("unreachable")


def _is_conflict(error: Exception) -> bool:
    if fault(error) or shortage(error):
        return False
    text = str(error).lower()
    return isinstance(error, CommitFailedError) or any(
        word in text for word in ("conflict", "concurrent", "transaction", "already exists", "not found")
    )
