"""README's transcript: what its commands print on the demo's lake.

`python docs/transcript.py FOLDER` runs them beside FOLDER/demo and writes what they print into README.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(?<=```console\n)(.*?)(?=```\n)", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w.])")
WIDTH = 100  # columns of the terminal
ABSOLUTE, RELATIVE = 0.06, 0.1  # how far numbers may differ: processors round differently


def main() -> None:
    """Write README's transcript anew."""
    text = README.read_text(encoding="utf-8")
    pairs = run(commands(text), Path(sys.argv[1]))
    blocks = "\n".join(f"$ {command}\n{output}".rstrip("\n") for command, output in pairs) + "\n"
    README.write_text(BLOCK.sub(lambda _: blocks, text, count=1), encoding="utf-8")


def transcript(text: str) -> list[tuple[str, str]]:
    """The commands of the first console block in `text`, each with what it is said to print."""
    found = BLOCK.search(text)
    parts = re.split(r"^\$ ", found[1] if found else "", flags=re.MULTILINE)[1:]
    return [_split(part) for part in parts]


def _split(part: str) -> tuple[str, str]:
    """Command and output; a command goes on where a quote is open or a line ends with a backslash."""
    lines = part.splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        command = "".join(lines[:count]).rstrip("\n")
        if command.count('"') % 2 == 0 and not command.endswith("\\"):
            return command, "".join(lines[count:])
    raise ValueError(f"README: a command does not end: {part}")


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
    parts = re.split(r"^=== \d+ ===\n", done.stdout, flags=re.MULTILINE)[1:]
    return list(zip(lines, parts, strict=True))


def difference(said: str, printed: str) -> str | None:
    """The first thing that differs in earnest: a word, or a number by more than rounding; None without any."""
    for line in range(max(len(said.splitlines()), len(printed.splitlines()))):
        pair = [(text.splitlines()[line : line + 1] or [""])[0] for text in (said, printed)]
        words = [" ".join(re.sub("[─━│┃┏┓┡┩└┘┳╇┴]+", " ", NUMBER.sub("#", text)).split()) for text in pair]
        numbers = [[float(each.replace(",", "")) for each in NUMBER.findall(text)] for text in pair]
        if words[0] != words[1] or any(not _is_close(*each) for each in zip(*numbers, strict=True)):
            return f"README says {pair[0]!r}, the command prints {pair[1]!r}"
    return None


def _is_close(said: float, printed: float) -> bool:
    return abs(said - printed) <= max(ABSOLUTE, RELATIVE * abs(said))


if __name__ == "__main__":
    main()
