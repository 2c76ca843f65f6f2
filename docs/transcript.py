"""Transcripts in pages: what the commands of their console blocks print.

`python docs/transcript.py PAGE FOLDER` runs them in FOLDER and writes what they print into the page: README.md's beside
FOLDER/demo, docs/evaluation.md's beside the mosaics that tests/test_acceptance.py makes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from lake.tables import TABLES

BLOCK = re.compile(r"(?<=```console\n)(.*?)(?=```\n)", re.DOTALL)
FRAMES = re.compile("[─━│┃┏┓┡┩└┘┳╇┴├┌┐┬┼┤]+")
VARYING = re.compile(
    r"\b(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{6,64}\b|\b\d{4}-\d\d-\d\d[ T][\d:.]+|\b\d{8}T\d{6}-\w+\b"
    rf"|\b(?:version|{'|'.join(TABLES)}) \d+\b"
)
NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w.])")
WIDTH = 100  # columns of the terminal
ABSOLUTE, RELATIVE = 0.06, 0.1  # how far numbers may differ: processors round differently


def main() -> None:
    """Write a page's transcript anew."""
    page, folder = Path(sys.argv[1]), Path(sys.argv[2])
    text = page.read_text(encoding="utf-8")
    printed = iter(run(commands(text), folder))
    page.write_text(BLOCK.sub(lambda block: _written(block[1], printed), text), encoding="utf-8")


def _written(block: str, printed: Iterator[tuple[str, str]]) -> str:
    """The block's commands with what they printed, the next ones of `printed`."""
    pairs = [next(printed) for _ in _parts(block)]
    return "\n".join(f"$ {command}\n{output}".rstrip("\n") for command, output in pairs) + "\n"


def transcript(text: str) -> list[tuple[str, str]]:
    """The commands of the console blocks in `text`, each with what it is said to print."""
    return [_split(part) for block in BLOCK.findall(text) for part in _parts(block)]


def _parts(block: str) -> list[str]:
    return re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]


def _split(part: str) -> tuple[str, str]:
    """Command and output; a command goes on where a quote is open or a line ends with a backslash."""
    lines = part.splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        command = "".join(lines[:count]).rstrip("\n")
        if command.count('"') % 2 == 0 and not command.endswith("\\"):
            return command, "".join(lines[count:])
    raise ValueError(f"a command does not end: {part}")


def commands(text: str) -> list[str]:
    """The commands of the transcript."""
    return [command for command, _ in transcript(text)]


def run(lines: list[str], folder: Path) -> list[tuple[str, str]]:
    """Run the commands in one shell in `folder`; each with what it printed, stdout and stderr together."""
    marks = [f"=== {number} ===" for number in range(len(lines))]
    script = "\n".join(f"echo '{mark}'\n{line}" for mark, line in zip(marks, lines, strict=True))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603
        ["bash", "-c", script],  # noqa: S607
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": str(WIDTH)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    printed = done.stdout.replace(str(folder.resolve()), "").replace(str(folder), "")
    parts = re.split(r"^=== \d+ ===\n", printed, flags=re.MULTILINE)[1:]
    return list(zip(lines, parts, strict=True))


def difference(said: str, printed: str) -> str | None:
    """The first thing that differs in earnest: a word, or a number by more than rounding; None without any.

    Where lines break does not count; hashes, times and table versions are as good as any others.
    """
    pair = [VARYING.sub("ID", " ".join(FRAMES.sub(" ", text).split())) for text in (said, printed)]
    words = [NUMBER.sub("#", text).split() for text in pair]
    numbers = [[float(each.replace(",", "")) for each in NUMBER.findall(text)] for text in pair]
    for number, (one, other) in enumerate(zip_longest(*words)):
        if one != other:
            around = [" ".join(each[max(0, number - 3) : number + 3]) for each in words]
            return f"the page says {around[0]!r}, the command prints {around[1]!r}"
    far = [each for each in zip(*numbers, strict=True) if not _is_close(*each)]
    return f"the page says {far[0][0]:g}, the command prints {far[0][1]:g}" if far else None


def _is_close(said: float, printed: float) -> bool:
    return abs(said - printed) <= max(ABSOLUTE, RELATIVE * abs(said))


if __name__ == "__main__":
    main()
