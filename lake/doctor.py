"""Looks over a machine and a lake before work starts: a list of checks, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lake import doctor_lake, doctor_machine, doctor_pixels
from lake.doctor_notes import Note, Status, error
from lake.storage_faults import fault
from udfs.errors import HistolakeError

Check = Callable[[Path], Iterable[Note]]
"""Given the lake's place, whether or not there is a lake, what there is to say."""

CHECKS: Mapping[str, Check] = {
    "python": doctor_machine.python,
    "packages": doctor_machine.packages,
    "ray": doctor_machine.ray,
    "processors": doctor_machine.processors,
    "memory": doctor_machine.memory,
    "open files": doctor_machine.open_files,
    "disk": doctor_machine.disk,
    "openslide": doctor_pixels.openslide,
    "images": doctor_pixels.images,
    "onnxruntime": doctor_pixels.onnxruntime,
    "lake": doctor_lake.tables,
    "writing": doctor_lake.writing,
    "creating once": doctor_lake.creating_once,
    "clock": doctor_lake.clock,
    "ledger": doctor_lake.ledger,
    "encoders": doctor_pixels.encoders,
    "mlflow": doctor_lake.mlflow,
}
"""In the order in which they are run and told."""


@dataclass(frozen=True)
class Finding:
    """A line of the doctor's answer: the check that it is of, and what it says."""

    check: str
    status: Status
    message: str
    remedy: str


def examine(root: Path, checks: Mapping[str, Check] = CHECKS) -> Iterator[Finding]:
    """What each check says of this machine and the lake at `root`, as it is found.

    A check that fails is an error of its own and keeps no other from running.
    """
    for name, check in checks.items():
        try:
            for note in check(root):
                yield Finding(name, note.status, note.message, note.remedy)
        except Exception as failure:  # whatever is wrong with the machine: to say so is what this is for
            note = _failed(failure)
            yield Finding(name, note.status, note.message, note.remedy)


def _failed(failure: Exception) -> Note:
    if isinstance(failure, HistolakeError):  # these say what to do
        message, _, remedy = str(failure).partition("; ")
        return error(message, remedy)
    first = str(failure).partition("\n")[0]
    return error(f"{type(failure).__name__}: {first}", fault(failure) or "mend what it names, or report it")
