"""Text on pictures: DejaVu Sans as matplotlib ships it, wrapped so that no word is cut off."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

LINE_HEIGHT = 1.35  # of the font's size


@lru_cache(maxsize=32)
def font(size: float, *, is_bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at `size` pixels."""
    name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
    import matplotlib  # half a second: only when something is drawn

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break text into lines no wider than `width` pixels, at spaces, and inside words that are too long."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if face.getlength(joined) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            *whole, line = _split_word(word, face, width)
            lines.extend(whole)
        lines.append(line)
    return lines


def _split_word(word: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and face.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces
