"""Tries an encoder's file in a process of its own: what a stranger exported may crash, hang, or take all memory."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udfs.errors import EncoderError, shortened

if TYPE_CHECKING:
    from udfs.encoders.encoder import EncoderSpec

SECONDS = 600.0  # the largest encoders take minutes to be opened on a small machine
MEMORY = 8 * 2**30  # bytes beside what the file itself takes
COPIES = 4  # of the weights, at most, while a provider arranges them for itself
LATER = 10  # s after the deadline the process ends by itself, should its parent be gone
PROJECT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "HOME", "OMP_NUM_THREADS")  # of the environment,
KEPT_BEGINNINGS = ("CUDA_", "NVIDIA_", "ORT_", "OPENVINO_", "OV_")  # and what begins so: a trial needs no credentials


def tried(
    name: str,
    onnx_path: Path,
    *,
    preprocessing: Mapping[str, object],
    precision: str,
    source: str,
    input_px: int | None = None,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> tuple[EncoderSpec, str]:
    """The spec of the encoder, as `describe` gives it, and the provider that ran it, in a process of its own.

    seconds: until that process is ended. memory: bytes that it may take beside the file.
    Raises EncoderError as `describe` does, and when the process crashes, hangs or takes too much.
    """
    order = {
        "name": name,
        "onnx_path": str(onnx_path.absolute()),
        "preprocessing": preprocessing,
        "precision": precision,
        "source": source,
        "input_px": input_px,
        "memory": memory,
        "seconds": seconds,
    }
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_BEGINNINGS)}
    own = {"PYTHONPATH": str(PROJECT), "MALLOC_ARENA_MAX": "2"}  # arenas are room that each thread reserves
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "udfs.encoders.trial"],  # what lies in the current folder is not imported
            input=json.dumps(order),
            capture_output=True,
            text=True,
            errors="replace",
            env={**kept, **own},
            cwd="/",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EncoderError(
            f"{onnx_path}: it was not opened and run once within {seconds:g} s; export it without loops, or smaller"
        ) from None
    answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"error": _crash(onnx_path, done)}
    if "error" in answer:
        raise EncoderError(answer["error"])
    from udfs.encoders.encoder import EncoderSpec

    return EncoderSpec(**answer["spec"]), answer["provider"]


def _crash(path: Path, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        why = f"it ended the process that tried it ({signal.Signals(-done.returncode).name})"
    else:
        why = f"it cannot be run ({shortened(next(reversed(done.stderr.split(chr(10))[:-1]), 'no reason told'))})"
    return f"{path}: {why}; export it again, with fixed shapes and standard operators"


def main() -> None:
    """Answer the order on standard input by a line on standard output."""
    order = json.load(sys.stdin)
    signal.alarm(math.ceil(order.pop("seconds")) + LATER)
    from udfs.encoders.encoder import Encoder, describe
    from udfs.encoders.onnx_file import MAX_BYTES, external_data

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no part of the answer
    path, memory = Path(order.pop("onnx_path")), order.pop("memory")
    try:
        least = memory + COPIES * min(_size(path), MAX_BYTES)
        confine(least)
        beside = COPIES * sum(_size(path.parent / name) for name in external_data(path))
        confine(max(least, min(least + beside, installed())))  # a file that is all hole has any size
        spec = describe(onnx_path=path, **order)
        answer = {"spec": asdict(spec), "provider": Encoder(spec, path).provider}
    except EncoderError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{path}: it takes more than {memory / 2**30:g} GB of memory; export it for smaller images"}
    answers.write(json.dumps(answer))
    answers.flush()
    os._exit(0)  # without taking down what a provider holds


def _size(path: Path) -> int:
    return path.stat().st_size if os.path.isfile(path) else 0


def installed() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def confine(memory: int) -> None:
    """Let this process have no more than so many bytes beside what it has, leave no core, and write no file."""
    if sys.platform == "win32":
        return
    import resource

    import onnxruntime as ort

    most = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    statm = Path("/proc/self/statm")
    if statm.exists() and "CUDAExecutionProvider" not in ort.get_available_providers():  # CUDA maps all that it may use
        mapped = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        most[resource.RLIMIT_AS] = mapped + memory
    for what, value in most.items():
        hard = resource.getrlimit(what)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (allowed, hard))


if __name__ == "__main__":
    main()
