"""Names planted where slides can hold them, and the search for them in all that comes out.

Every place gets a token of its own, so that a leak tells where it is from; all tokens share a stem, so that one search
finds them. Pictures get a colour that no stain, no heatmap and no page has.
"""

from __future__ import annotations

import base64
import io
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tifffile
from PIL import Image

NAME, MRN = "quillfeather", "7719047"  # in lower case; a person's name, and the number of a record
BIRTH = ("1931:04:05", "1931-04-05", "19310405")  # as TIFF, people and DICOM write the day
LABEL_GREEN = (0, 255, 0)
NEAR = 48  # of a channel, that JPEG may change
LEAST = 24  # pixels of that colour that are a label, and no accident of an edge
PICTURES = (b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xdb")  # first bytes


class Plant:
    """Gives tokens, and remembers where each is."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def name(self, place: str) -> str:
        """A name for that place."""
        token = f"Quillfeather{len(self.places):03d}"
        self.places[token.lower()] = place
        return token

    def number(self, place: str) -> str:
        """A number for that place."""
        token = f"{MRN}{len(self.places):03d}"
        self.places[token] = place
        return token

    def described(self, tokens: set[str]) -> dict[str, str]:
        """The places that the tokens are from."""
        return {token: self.places.get(token, "a part, or a date") for token in sorted(tokens)}


def _forms(text: str) -> Iterator[bytes]:
    """The ways in which the text may stand among bytes: UTF-8 (and Latin-1), UTF-16, base64 at each offset, hex."""
    for each in {text, text.capitalize(), text.upper()}:
        raw = each.encode()
        yield raw.hex().encode()
        for shift in range(3):
            whole = base64.b64encode(b"\0" * shift + raw)
            yield whole[4 if shift else 0 : -4]  # without letters that depend on what stands beside
    yield from (text.encode("utf-16-le"), text.encode("utf-16-be"))


_PLAIN = re.compile(rf"{NAME}\d{{0,3}}|{MRN}\d{{0,3}}|{'|'.join(BIRTH)}".encode())
_OTHER = re.compile(b"|".join(re.escape(form) for text in (NAME, MRN) for form in _forms(text)))


def leaks(data: bytes) -> set[str]:
    """The tokens that stand in the bytes, in whatever form and case."""
    found = {match.decode() for match in _PLAIN.findall(data.lower())}
    return found | {match.decode("latin-1") for match in [*_OTHER.findall(data), *_OTHER.findall(data.lower())]}


def leaks_of_file(file: Path) -> set[str]:
    """The tokens in a file, its name and whatever it holds in compressed form: Parquet, zip, SQLite, tags, chunks."""
    data = file.read_bytes()
    found = leaks_of_bytes(data) | leaks(file.name.encode())
    if file.suffix == ".parquet":
        table = pq.read_table(file, partitioning=None)
        found |= leaks(repr(table.schema.metadata).encode()) | leaks(repr(table.to_pylist()).encode())
        values = [each for column in table.columns for each in column.to_pylist() if isinstance(each, bytes)]
        found |= set().union(*map(leaks_of_bytes, values))
    if data.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(file)) as con:
            found |= leaks("\n".join(con.iterdump()).encode())
    return found


def leaks_of_bytes(data: bytes) -> set[str]:
    """The tokens in the bytes of a file: in entries of a zip, tags of a TIFF, chunks of a picture, too."""
    found = leaks(data)
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                found |= leaks(entry.filename.encode()) | leaks(archive.read(entry))
    if data[:4] in PICTURES:
        found |= leaks_of_picture(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            found |= leaks(repr([tag.value for page in tiff.pages for tag in page.tags]).encode())
    return found


def leaks_of_picture(data: bytes) -> set[str]:
    """The tokens in an encoded picture: its bytes, text chunks, EXIF and profile."""
    with Image.open(io.BytesIO(data)) as picture:
        return leaks(data) | leaks(repr(picture.info).encode()) | leaks(repr(dict(picture.getexif())).encode())


def leaks_of_folder(folder: Path) -> dict[str, set[str]]:
    """The tokens below a folder, by file; in names of files and folders, too."""
    found = {}
    for file in sorted(folder.rglob("*")):
        inside = leaks_of_file(file) if file.is_file() else leaks(file.name.encode())
        if inside:
            found[str(file.relative_to(folder))] = inside
    return found


def shows_label(pixels: np.ndarray) -> bool:
    """Whether the colour of labels and macros is in a picture, RGB."""
    is_green = (np.abs(pixels[..., :3].astype(int) - LABEL_GREEN) <= NEAR).all(axis=-1)
    return int(is_green.sum()) >= LEAST


def pictures_in(file: Path) -> Iterator[np.ndarray]:
    """Every picture in a file: PNG, JPEG, the pages of a TIFF, or pictures in columns of Parquet; RGB."""
    if file.suffix in (".png", ".jpeg", ".jpg"):
        yield np.asarray(Image.open(file).convert("RGB"))
    elif file.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(file) as tiff:
            yield from (page.asarray() for page in tiff.pages)
    elif file.suffix == ".parquet":
        for column in pq.read_table(file, partitioning=None).columns:
            for each in column.to_pylist():
                if isinstance(each, bytes) and each[:4] in PICTURES:
                    yield np.asarray(Image.open(io.BytesIO(each)).convert("RGB"))
