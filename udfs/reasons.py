"""Why a library could not read a file, in its own words alone: what it quotes of the file may name a patient.

OpenSlide, and what it is made of, put tags, keys, lines and names of files into their messages. What is let through is
on the list below; what is not becomes an ellipsis.
"""

from __future__ import annotations

import re

LONGEST = 200  # characters

_SAID = """
a above access address after all allocate allocation already an and any area argument array as aspect assertion
associated at attribute bad be been before beyond big bigtiff bit bits bitspersample block bound bounds box buffer but
by byte bytecount bytes can can't cannot channel channels character class code codestream color colors colour column
columns comment component components compressed compression configured connection contains content context corrupt
could couldn't count czi data dataset datatype decode decoded decoder decoding decompress decompressing decompression
default defined descriptor detected dicom dictionary did didn't different dimension dimensional dimensions directories
directory divisible does doesn't down duplicate element elements empty end enough entry eof eoi error errors exceeds
expected extension extent fail failed failure fetching field file file's files find first for form format formed found
fractional frame from get got group handle has hash have header height hier huffman icc identifier ifd illegal image
imagelength images imagewidth in incomplete inconsistent index initial inside instance instances integer interpreted
invalid is item j2k jp2k jpeg jpeg2000 key key-value large larger last least length level levels libtiff limit line
load loaded locate long loop lzw magic main map marker markers match maximum memory message metadata mismatch missing
more multiple name negative next no non none nonhier not number object of off offset offsets old on one only open
opened openslide operation or order out overflow overlap page pair parse parsing part per permission photometric pixel
pixels planar plane png pointer position predictor premature profile progressive property quantization range read
reader reading record rectangle reduced reference region remaining required resolution restart row rows rowsperstrip
sample samples samplesperpixel scan scanline scanner scene second section seek segment sequence set short should size
sizes slide slidedat.ini slides sof soi sos space spacing start starts stop stream strip strips structure subblock
subifd subsampling support supported table tables tag tags terminated than that the there third this tiff tile
tilelength tiles tilewidth to too truncated two type uncompressed unexpected unknown unrecognized unsupported utf-8
valid value values version was well- which while width with without wrong wsi xml ycbcr zero zlib zoom zstd
"""  # words of OpenSlide, GLib, libtiff, libjpeg, OpenJPEG, libxml2 and libdicom
_WORDS = frozenset(_SAID.split())
_NUMBER = re.compile(r"\d{1,3}|0x[0-9a-f]{1,4}")  # a level, a marker: too short to be anybody's
_TOKEN = re.compile(r"[^\s,;:()<>=]+")
_GAPS = re.compile(r"…(?:[^\w.]*…)+")


def reason(error: BaseException) -> str:
    """What the library says, without what it quotes."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "it takes more memory than a slide may"
    told = _GAPS.sub("…", _TOKEN.sub(_let_through, str(error))).strip() or type(error).__name__
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


def _let_through(found: re.Match[str]) -> str:
    word = found[0]
    plain = word.strip(".!?'\"`").lower()
    return word if plain in _WORDS or _NUMBER.fullmatch(plain) else "…"
