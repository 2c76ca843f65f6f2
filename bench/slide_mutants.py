"""Damages slides in every way that is known to happen, and some that only malice thinks of; the same for one seed."""

from __future__ import annotations

import itertools
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slide_originals import FORMATS, Directory, Original, Tag

ABSURD = (0, 1, 2, 17, 255, 2**16 - 1, 10**6, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
SIZES = ("ImageWidth", "ImageLength", "TileWidth", "TileLength")
OTHERS = ("Compression", "PhotometricInterpretation", "BitsPerSample", "SamplesPerPixel", "PlanarConfiguration")
RESOLUTIONS = ((0, 1), (1, 0), (0, 0), (10**9, 1), (1, 10**9), (10, 1))  # dots a centimetre as fractions
MPPS = (b"0", b"-0.5", b"nan", b"1000", b"1e999", b"inf", b"", b"0,499")

Damage = Callable[[random.Random, Original, Path], None]


@dataclass(frozen=True)
class Mutant:
    """A damaged slide. original: what it was; None where it never was a slide."""

    kind: str
    path: Path
    original: Original | None


def truncated(rng: random.Random, original: Original, path: Path) -> None:
    """At a structural boundary, or a byte beside it."""
    at = rng.choice(original.boundaries) + rng.choice((-1, 0, 0, 1)) if _is_tiff(original) else rng.randrange(2**15)
    path.write_bytes(original.data[: max(1, at)])


def tile_bytes_flipped(rng: random.Random, original: Original, path: Path) -> None:
    """Some bytes of some tiles."""
    data = bytearray(original.data)
    for offset, length in rng.choices(_level(rng, original).tiles, k=rng.randint(1, 8)):
        for _ in range(rng.choice((1, 3, 40))):
            data[offset + rng.randrange(length)] ^= rng.randint(1, 255)
    _write(path, data)


def directory_bytes_flipped(rng: random.Random, original: Original, path: Path) -> None:
    """Some bytes of directories, their entries' values or the header."""
    data = bytearray(original.data)
    level = rng.choice(original.directories)
    places = [*range(16), *range(level.start, level.next_at + 4)]
    places += [tag.value + byte for tag in level.tags.values() for byte in range(min(64, 2 * tag.count))]
    for at in rng.choices([place for place in places if place < len(data)], k=rng.randint(1, 4)):
        data[at] ^= 1 << rng.randrange(8)
    _write(path, data)


def tiles_zeroed(rng: random.Random, original: Original, path: Path) -> None:
    """The bytes of tiles, as a copy with holes has them."""
    data = bytearray(original.data)
    tiles = _level(rng, original).tiles
    for offset, length in rng.sample(tiles, min(len(tiles), rng.choice((1, 3, len(tiles))))):
        data[offset : offset + length] = bytes(length)
    _write(path, data)


def wrong_offset(rng: random.Random, original: Original, path: Path) -> None:
    """A tile that is said to lie elsewhere: on another, in the header, beyond the end."""
    level = _level(rng, original)
    others = [rng.choice(level.tiles)[0], level.start, 0, 1, len(original.data) - 10, len(original.data), *ABSURD]
    _change(rng, original, path, level.tags["TileOffsets"], others)


def wrong_byte_count(rng: random.Random, original: Original, path: Path) -> None:
    """A tile that is said to be shorter, longer, or nothing."""
    level = _level(rng, original)
    _change(rng, original, path, level.tags["TileByteCounts"], [0, 0, 1, 2, 100, 10_000, *ABSURD])


def absurd_dimension(rng: random.Random, original: Original, path: Path) -> None:
    """Width or height of a level or its tiles."""
    level = _level(rng, original)
    _change(rng, original, path, level.tags[rng.choice(SIZES)], ABSURD)


def absurd_tag(rng: random.Random, original: Original, path: Path) -> None:
    """How pixels are said to be stored, or how many values a tag is said to have."""
    level = _level(rng, original)
    if rng.random() < 0.5:
        known = [level.tags[name] for name in OTHERS if name in level.tags]
        _change(rng, original, path, rng.choice(known), [*range(9), 16, 32, 34712, 50000, 2**16 - 1])
        return
    data, tag = bytearray(original.data), rng.choice(list(level.tags.values()))
    struct.pack_into(original.order + ("Q" if original.is_big else "I"), data, tag.entry + 4, rng.choice(ABSURD))
    _write(path, data)


def missing_level(rng: random.Random, original: Original, path: Path) -> None:
    """Directories that are left out of the chain: some, or all behind one, or the first."""
    chain = original.directories
    first, second = sorted(rng.sample(range(len(chain) + 1), 2))
    data = bytearray(original.data)
    target = chain[second].start if second < len(chain) else 0
    _link(original, data, chain[first - 1] if first else None, target)
    _write(path, data)


def directory_loop(rng: random.Random, original: Original, path: Path) -> None:
    """A chain of directories that comes back to one before, or into the middle of one."""
    data = bytearray(original.data)
    last, back = rng.choice(original.directories), rng.choice(original.directories)
    _link(original, data, last, back.start + rng.choice((0, 0, 0, 2, 12)))
    _write(path, data)


def odd_mpp(rng: random.Random, original: Original, path: Path) -> None:
    """Resolutions of zero, below zero, none, and such as no scanner has."""
    data = bytearray(original.data)
    mark = b"MPP = "
    if mark in data:
        at = data.index(mark) + len(mark)
        data[at : at + 6] = rng.choice(MPPS).ljust(6)[:6]
    for name in ("XResolution", "YResolution"):
        tag = original.directories[0].tags.get(name)
        if tag is not None and rng.random() < 0.8:
            struct.pack_into(f"{original.order}II", data, tag.value, *rng.choice(RESOLUTIONS))
    _write(path, data)


def empty(_: random.Random, __: Original, path: Path) -> None:
    """A file of no bytes."""
    path.touch()


def folder(_: random.Random, original: Original, path: Path) -> None:
    """A folder with a slide in it, named as a slide is."""
    path.mkdir()
    (path / "inside.dat").write_bytes(original.data[:1000])


def broken_link(_: random.Random, __: Original, path: Path) -> None:
    """A link to nothing."""
    path.symlink_to(path.with_name("nothing.tif"))


def looping_link(_: random.Random, __: Original, path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path)


def pipe(_: random.Random, __: Original, path: Path) -> None:
    """A named pipe: who opens it waits for ever."""
    os.mkfifo(path)


def no_permission(_: random.Random, original: Original, path: Path) -> None:
    """A file that may not be read, where the suite does not run as root."""
    _write(path, bytearray(original.data))
    path.chmod(0)


def sound(_: random.Random, original: Original, path: Path) -> None:
    """Nothing: the name is what is odd, or the file shrinks later."""
    _write(path, bytearray(original.data))


IN_TIFF: dict[str, Damage] = {
    "truncated": truncated,
    "tile bytes flipped": tile_bytes_flipped,
    "directory bytes flipped": directory_bytes_flipped,
    "tiles zeroed": tiles_zeroed,
    "wrong offset": wrong_offset,
    "wrong byte count": wrong_byte_count,
    "absurd dimension": absurd_dimension,
    "absurd tag": absurd_tag,
    "missing level": missing_level,
    "loop of directories": directory_loop,
    "odd mpp": odd_mpp,
}
OF_FILES: dict[str, Damage] = {
    "empty": empty,
    "folder": folder,
    "broken link": broken_link,
    "link to itself": looping_link,
    "pipe": pipe,
    "no permission": no_permission,
    "emoji name": sound,
    "255-byte name": sound,
    "shrinks while it is read": sound,
}
ONCE_IN = 4  # rounds: files that cannot be opened have fewer ways to differ


def dicom_bytes_flipped(rng: random.Random, original: Original, path: Path) -> None:
    """Some bytes, more of them before the pixels."""
    data = bytearray(original.data)
    for _ in range(rng.randint(1, 6)):
        data[rng.choice((rng.randrange(4096), rng.randrange(len(data))))] ^= rng.randint(1, 255)
    _write(path, data)


IN_DICOM: dict[str, Damage] = {"DICOM truncated": truncated, "DICOM bytes flipped": dicom_bytes_flipped}


def make(folder: Path, originals: Sequence[Original], bad: Sequence[Path], seed: int) -> Iterator[Mutant]:
    """Mutants in a folder of theirs, one after the other, for ever: every kind comes in the first round.

    bad: files that others damaged, which come first.
    """
    tiffs = [slide for slide in originals if _is_tiff(slide)]
    others = [slide for slide in originals if not _is_tiff(slide)]
    number = itertools.count()
    for path in bad:
        yield Mutant("damaged by others", _placed(folder, next(number), path.suffix, path.read_bytes()), None)
    for turn in itertools.count():
        kinds = {**IN_TIFF, **(OF_FILES if turn % ONCE_IN == 0 else {}), **(IN_DICOM if others else {})}
        for place, (kind, damage) in enumerate(kinds.items()):
            known = others if kind in IN_DICOM else tiffs
            original = known[(turn + place) % len(known)]
            path = folder / _name(next(number), kind, original.suffix)
            if kind in IN_DICOM:  # a folder of its own: all files of a folder are one slide
                path = folder / path.stem / path.name
                path.parent.mkdir()
            damage(random.Random(f"{seed} {path.name}"), original, path)  # noqa: S311
            yield Mutant(kind, path, original)


def _placed(folder: Path, number: int, suffix: str, data: bytes) -> Path:
    path = folder / _name(number, "", suffix)
    path.write_bytes(data)
    return path


def _name(number: int, kind: str, suffix: str) -> str:
    name = f"m{number:04}"
    if kind == "emoji name":
        name += " \N{NEUTRAL FACE}\N{MICROSCOPE}"
    if kind == "255-byte name":
        name = name.ljust(255 - len(suffix), "x")
    return name + suffix


def _is_tiff(original: Original) -> bool:
    return original.data[:2] in (b"II", b"MM")


def _level(rng: random.Random, original: Original) -> Directory:
    """A directory that is tiled; the first in half of the cases."""
    tiled = [directory for directory in original.directories if "TileOffsets" in directory.tags]
    return tiled[0] if rng.random() < 0.5 else rng.choice(tiled)


def _change(rng: random.Random, original: Original, path: Path, tag: Tag, values: Sequence[int]) -> None:
    """Give one of the tag's values another, in a type that holds it where the tag has but one."""
    data, value = bytearray(original.data), rng.choice(values)
    type_ = tag.type
    if tag.count == 1 and value >= 2**16 and type_ == 3:  # a short
        type_ = 4
        struct.pack_into(f"{original.order}H", data, tag.entry + 2, type_)
    form = original.order + FORMATS[type_]
    largest = 2 ** (8 * struct.calcsize(form)) - 1
    struct.pack_into(form, data, tag.value + rng.randrange(tag.count) * struct.calcsize(form), min(value, largest))
    _write(path, data)


def _link(original: Original, data: bytearray, from_: Directory | None, to: int) -> None:
    """Have a directory, or else the header, name another place as that of the next."""
    at = from_.next_at if from_ else (8 if original.is_big else 4)
    struct.pack_into(original.order + ("Q" if original.is_big else "I"), data, at, to)


def _write(path: Path, data: bytearray) -> None:
    """With the name behind: the same content under two names would be one slide."""
    path.write_bytes(data + path.name.encode())
