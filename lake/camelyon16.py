"""Fetches slides of the Camelyon16 challenge, with annotations and reference, from its public bucket."""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from lake.files import replacing
from udfs.download import download, served
from udfs.errors import HistolakeError, MissingError
from udfs.locks import try_alone

SOURCE = "https://camelyon-dataset.s3.us-west-2.amazonaws.com/CAMELYON16"
CHECKSUMS = "checksums.md5"
OF_ALL = ("evaluation/reference.csv", "license.txt", "README.md")
OF_SLIDE = ("images/{}.tif", "annotations/{}.xml", "masks/{}_mask.tif")  # of which only the first must be there
WORDS = {"tumor": {"tumor", "macro", "micro", "itc"}, "normal": {"normal", "negative"}}  # of reference.csv

Came = Callable[[str, int, int], None]
"""Told of a file's name, the bytes that came and the bytes in all."""


def fetch(slides: Sequence[str], into: Path, source: str, came: Came) -> list[Path]:
    """Complete the slides' files in the folder `into`, laid out as at `source`; returns those that were missing.

    Files that are complete stay, and one that was broken off is resumed; each is verified where checksums.md5 lists
    it. manifest.csv gets a row for each slide in the folder. Raises HistolakeError for slides that the data set lacks,
    and when a file cannot be had, is not what was published, or cannot be written.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        lock = try_alone(into / ".lock")
        if lock is None:
            raise HistolakeError(f"{into}: another `histolake fetch` is at work there; wait for it")
        try:
            return _fetch(slides, into, source.rstrip("/"), came)
        finally:
            os.close(lock)
    except OSError as error:
        raise HistolakeError(
            f"{into}: cannot be written: {error.strerror or error}; make room, and run the same command again"
        ) from error


def _fetch(slides: Sequence[str], into: Path, source: str, came: Came) -> list[Path]:
    (into / CHECKSUMS).unlink(missing_ok=True)
    _receive(f"{source}/{CHECKSUMS}", into / CHECKSUMS, None, came)
    sums = checksums((into / CHECKSUMS).read_text(encoding="utf-8"))
    known = [Path(name).stem for name in sums if name.startswith("images/")]
    for slide in slides:
        if known and slide not in known:
            raise HistolakeError(f"Camelyon16 has no slide {slide!r}{_hint(slide, known)}")
    new = []
    for name in [*OF_ALL, *(pattern.format(slide) for slide in slides for pattern in OF_SLIDE)]:
        try:
            if _receive(f"{source}/{name}", into / name, sums.get(name), came):
                new.append(into / name)
        except MissingError:
            if name.startswith("images/") or name in sums:
                raise
    _write_manifest(into)
    return new


def checksums(text: str) -> dict[str, str]:
    """The MD5 of each file that lines as md5sum writes them tell; names relative to the data set's folder."""
    line = re.compile(r"^([0-9a-f]{32})[ \t]+\*?(?:\./)?(?:CAMELYON16/)?(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE)
    return {name: md5.lower() for md5, name in line.findall(text)}


def _hint(slide: str, known: Sequence[str]) -> str:
    padded = re.sub(r"\d+$", lambda number: number[0].zfill(3), slide.lower())
    near = [padded] if padded in known else difflib.get_close_matches(slide, known, 3, 0.6)
    return (
        f"; did you mean {', '.join(near)}?" if near else "; its slides are called like tumor_001, normal_001, test_001"
    )


def _receive(address: str, target: Path, md5: str | None, came: Came) -> bool:
    """Complete the file; false where it was."""
    if target.is_file() and (md5 is None or _md5(target) == md5):
        return False
    stop = threading.Event()
    [file] = served(address, stop)
    part = target.with_name(f".{target.name}.part")
    download(file, part, lambda held: came(target.name, held, file.size), stop)
    if md5 is not None and _md5(part) != md5:
        part.unlink()
        raise HistolakeError(
            f"{address}: not what {CHECKSUMS} says it is; it was deleted, run the same command to fetch it anew"
        )
    part.replace(target)
    return True


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _write_manifest(into: Path) -> None:
    """Tell ingest of each slide: the challenge's test slides are for testing, and what the slide is as a whole."""
    words = _reference(into / "evaluation" / "reference.csv")
    rows = [("slide_id", "path", "split", "label")]
    for path in sorted((into / "images").glob("*.tif")):
        kind = path.stem.partition("_")[0]
        label = kind if kind in WORDS else _label(words.get(path.stem, set()))
        rows.append((path.stem, f"images/{path.name}", "test" if kind == "test" else "", label))
    with replacing(into / "manifest.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _reference(path: Path) -> dict[str, set[str]]:
    """The words of each slide's row."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    return {Path(row[0].strip()).stem.lower(): {cell.strip().lower() for cell in row[1:]} for row in rows}


def _label(words: set[str]) -> str:
    return next((label for label, telling in WORDS.items() if words & telling), "")
