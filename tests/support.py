"""What tests share: small real slides, annotations, and the command line on a lake."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lake import choices, cli, store
from lake.pyramid import write_pyramid

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

Box = tuple[int, int, int, int]  # x, y, width, height, level-0 px

GLASS, STROMA, TUMOR = (243, 243, 243), (226, 150, 190), (120, 60, 150)


def write_slide(
    path: Path,
    *,
    tissue: Box = (256, 128, 512, 512),
    tumor: Box | None = None,
    size: tuple[int, int] = (1024, 768),
    mpp: float = 1.0,
) -> Path:
    """A white slide with a rectangle of pink tissue and, in it, one of purple tumor, with its ASAP XML beside it.

    Slides of different names differ in their noise: the same content under two names would be one slide.
    """
    rng = np.random.default_rng(list(path.stem.encode()))
    pixels = np.full((size[1], size[0], 3), GLASS, np.float32)
    for box, colour in ((tissue, STROMA), (tumor, TUMOR)):
        if box is not None:
            x, y, width, height = box
            pixels[y : y + height, x : x + width] = colour
            pixels[y : y + height, x : x + width] += rng.normal(0, 12, (height, width, 1))
    write_pyramid(path, pixels.clip(0, 255).astype(np.uint8), mpp=mpp, description="test slide")
    path.with_suffix(".xml").write_text(asap([("Tumor", tumor)] if tumor else []))
    return path


def asap(boxes: list[tuple[str, Box]]) -> str:
    """ASAP XML of rectangles, each in its group."""
    shapes = []
    for number, (group, (x, y, width, height)) in enumerate(boxes):
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        points = "".join(f'<Coordinate Order="{i}" X="{a}" Y="{b}"/>' for i, (a, b) in enumerate(corners))
        head = f'<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="{group}">'
        shapes.append(f"{head}<Coordinates>{points}</Coordinates></Annotation>")
    return f"<ASAP_Annotations><Annotations>{''.join(shapes)}</Annotations></ASAP_Annotations>"


@dataclass
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output, parsed."""
        return json.loads(self.out)


def run_command(*words: str) -> Answer:
    """Run `histolake WORDS` in this process; what it printed and its exit status."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["histolake", *words]
    status = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = before
        choices.tracing.on = False
    return Answer(status, out.getvalue(), err.getvalue())


def refused(answer: Answer, *words: str) -> None:
    """The answer is one line of refusal that holds all the words, and no traceback."""
    lines = [line for line in answer.err.splitlines() if line.startswith(("histolake:", "failed:"))]
    assert answer.status == 1, answer
    assert len(lines) == 1, answer.err
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in answer.err


@dataclass
class TestLake:
    """A lake and the command line on it."""

    __test__ = False

    root: Path
    tiling: tuple[str, ...] = ("--patch-px", "64", "--mpp", "1", "--encoder", "tiny")

    def __call__(self, *words: str) -> Answer:
        """Run a command on this lake."""
        return run_command(*words, "--lake", str(self.root))

    def ok(self, *words: str) -> Answer:
        """Run a command on this lake that must succeed."""
        answer = self(*words)
        assert answer.status == 0, answer.err
        return answer

    def read(self, table: str) -> pl.DataFrame:
        """All rows of a table as it is now, by Polars alone."""
        return store.rows(self.root, table)

    def versions(self) -> dict[str, int]:
        """The newest Delta version of every table."""
        return {
            path.parent.name: store.open_table(self.root, path.parent.name).version()
            for path in self.root.glob("*/_delta_log")
        }
