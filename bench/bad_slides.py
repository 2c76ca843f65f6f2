"""Attacks the reading of slides: ingests and runs damaged slides among sound ones, and looks at what comes of it.

`python bench/bad_slides.py [--mutants 1000] [--seed 0]`. Mutants go through `histolake ingest` and `run` up to
features, in batches, each with sound slides. A broken promise ends the suite with status 1. Figures go into
bench/bad_slides.json and docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import report
import slide_mutants
import slide_originals
from slide_mutants import Mutant
from slide_oracle import BLOCK_PX, PATCH_PX
from slide_originals import MPP
from slide_outcomes import Findings, judge

from lake import creation, encoders, store
from udfs.encoders.encoder import describe

BATCH = 125  # mutants that are ingested together
SOUND = 3  # slides among them that are not damaged
STRIDE_PX = 128
DICOM_MPP = 28.969
MOST_COMMAND_SECONDS = 3600
ENCODER = "squares"
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # of Linux
OUTCOMES = ("ok", "some patches unreadable", "empty", "failed", "lost")


def main() -> None:
    """Run the suite and write its figures down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="histolake-bad-slides-") as folder:
        findings = attack(Path(folder), asked.mutants, asked.seed)
    for line in findings.broken:
        print(line, file=sys.stderr)
    write(findings, asked.mutants, asked.seed)
    sys.exit(bool(findings.broken))


def attack(folder: Path, number: int, seed: int) -> Findings:
    """Make so many mutants, and see what comes of them."""
    findings = Findings()
    originals = [*slide_originals.written(folder / "originals"), *slide_originals.real(report.SHARED)]
    sound = sound_slides(folder / "sound")
    encoder = write_encoder(folder / "squares.onnx")
    undisturbed = rows_of(run(findings, folder / "undisturbed", encoder, sound, []), sound)
    (folder / "mutants").mkdir()
    mutants = slide_mutants.make(folder / "mutants", originals, slide_originals.bad(report.SHARED), seed)
    left = number
    while left > 0:
        batch = list(itertools.islice(mutants, min(BATCH, left)))
        left -= len(batch)
        root = run(findings, folder / f"lake-{left}", encoder, sound, batch)
        judge(findings, root, batch)
        if rows_of(root, sound) != undisturbed:
            findings.broken.append(f"{root.name}: the rows of sound slides are not those of a run without mutants")
        print(f"{number - left} mutants, {len(findings.broken)} promises broken", flush=True)
        for mutant in batch:
            remove(mutant.path)
    return findings


def sound_slides(folder: Path) -> list[Path]:
    """Slides of three compressions that nobody damages."""
    found = []
    for original in slide_originals.written(folder / "from")[:SOUND]:
        path = folder / f"sound-{original.name}{original.suffix}"
        path.write_bytes(original.data)
        found.append(path)
    return found


def write_encoder(path: Path) -> Path:
    """An ONNX file: the mean of each channel in 4 x 4 squares of a patch of 64 px."""
    import onnx
    from onnx import TensorProto, helper

    edge = BLOCK_PX
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["means"], kernel_shape=[edge, edge], strides=[edge, edge]),
        helper.make_node("Flatten", ["means"], ["features"]),
    ]
    size, count = PATCH_PX, 3 * (PATCH_PX // edge) ** 2
    graph = helper.make_graph(
        nodes,
        ENCODER,
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", count])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(findings: Findings, root: Path, encoder: Path, sound: Sequence[Path], mutants: Sequence[Mutant]) -> Path:
    """A lake of the slides, up to features."""
    creation.create(root)
    spec = describe(ENCODER, encoder, preprocessing={"scale": 1 / 255}, precision="fp32", source="bench")
    encoders.add(root, spec, encoder, "bench")
    shrinks = [mutant.path for mutant in mutants if mutant.kind == "shrinks while it is read"]
    dicom = [name for mutant in mutants if mutant.path.suffix == ".dcm" for name in ("--slide", mutant.path.stem)]
    tiling = ("--patch-px", str(PATCH_PX), "--encoder", ENCODER, "--stride-px", str(STRIDE_PX))
    command(findings, root, "ingest", *map(str, sound), *(str(mutant.path) for mutant in mutants))
    with shrinking(shrinks):
        command(findings, root, "run", "--mpp", str(MPP), *tiling)
        if dicom:
            command(findings, root, "run", "--mpp", str(DICOM_MPP), *tiling, *dicom)
    return root


def command(findings: Findings, root: Path, *words: str) -> None:
    """A command on the lake, in a process of its own; it must end by itself, and say no more than sentences."""
    environment = {**os.environ, "PYTHONPATH": str(report.ROOT)}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "lake", *words, "--lake", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        cwd=report.ROOT,
        preexec_fn=heed_permissions if sys.platform == "linux" else None,
    )
    try:
        _, printed = process.communicate(timeout=MOST_COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, printed = process.communicate()
        findings.broken.append(f"{root.name}: {words[0]} took longer than {MOST_COMMAND_SECONDS} s")
    if process.returncode not in (0, 1) or "Traceback" in printed:
        findings.crashes += 1
        findings.broken.append(f"{root.name}: {words[0]} ended with status {process.returncode}: {printed[-2000:]}")


def heed_permissions() -> None:
    """Have permissions of files hold for root, too, in what this process starts."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # which fails where one is not root


@contextlib.contextmanager
def shrinking(paths: Sequence[Path]) -> Iterator[None]:
    """While the block runs, files lose their ends, bit by bit."""
    stop = threading.Event()

    def shrink() -> None:
        while not stop.wait(0.2):
            for path in paths:
                os.truncate(path, path.stat().st_size * 997 // 1000)

    thread = threading.Thread(target=shrink)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def remove(path: Path) -> None:
    """Take a mutant away."""
    if path.suffix == ".dcm":
        shutil.rmtree(path.parent)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def rows_of(root: Path, sound: Sequence[Path]) -> list[object]:
    """What the lake has of the sound slides, in order."""
    names = [path.stem for path in sound]
    found: list[object] = []
    for table in ("slides", "patches", "features"):
        key = ["slide_id"] if table == "slides" else ["slide_id", "patch_set", "y", "x"]
        found += store.rows(root, table).filter(pl.col("slide_id").is_in(names)).sort(key).rows()
    return found


def write(findings: Findings, number: int, seed: int) -> None:
    """Keep the figures, and put them into the page."""
    results = {
        "machine": report.machine(),
        "mutants": number,
        "seed": seed,
        "outcomes": {kind: dict(counts) for kind, counts in findings.outcomes.items()},
        "patches": dict(findings.patches),
        "ended_a_reader": findings.ends,
        "reached_the_deadline": findings.deadlines,
        "crashes": findings.crashes,
        "slowest_unit_s": round(findings.slowest, 1),
        "broken": findings.broken,
    }
    report.write("bad_slides", results, "guarantees.md", {"slides": page(results)})


def page(results: Mapping[str, Any]) -> str:
    """Promises with their figures, and what became of each kind of mutant."""
    patches, tested = results["patches"], "`tests/lake/test_bad_slides.py`, `make bad-slides`"
    of_reader = "`tests/udfs/test_slide_process.py`"
    broken = len(results["broken"])
    promises = [
        ("no slide takes the process down", tested, f"{results['mutants']:,} mutants, {results['crashes']} crashes"),
        (
            "no slide holds a unit of work longer than three deadlines, beside a second of a processor for each patch",
            f"{of_reader}, `make bad-slides`",
            f"slowest unit {results['slowest_unit_s']:g} s; {results['ended_a_reader']} slides ended a reader, "
            f"{results['reached_the_deadline']} of them at its deadline",
        ),
        (
            "no pixels are invented",
            tested,
            f"{patches.get('as in the sound slide', 0):,} patches as in the sound slide, "
            f"{patches.get('as another decoder reads the damage', 0):,} as another decoder reads the damage, "
            f"{patches.get('unreadable', 0):,} NULL with an error, {patches.get('invented', 0)} invented",
        ),
        (
            "every outcome is in the ledger, and other slides are unharmed",
            tested,
            f"{sum(counts.get('lost', 0) for counts in results['outcomes'].values())} lost, {broken} promises broken",
        ),
        ("a reader that dies, hangs or eats memory costs only the patch at fault", of_reader, ""),
    ]
    kinds = [
        (kind, *(f"{counts.get(outcome, 0):,}" for outcome in OUTCOMES)) for kind, counts in results["outcomes"].items()
    ]
    return (
        f"{report.grid(('promise', 'test', 'figure'), promises)}\n\n"
        f"What became of the mutants:\n\n{report.grid(('damage', *OUTCOMES), kinds)}\n\n{results['machine']}."
    )


if __name__ == "__main__":
    main()
