"""README's picture: `python docs/picture.py HEATMAP.png` makes it small enough for a page."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH = 820  # px: half of what `histolake heatmap` draws
COLORS = 128


def main() -> None:
    """Write heatmap.png beside this file."""
    image = Image.open(sys.argv[1]).convert("RGB")
    height = round(image.height * WIDTH / image.width)
    small = image.resize((WIDTH, height), Image.Resampling.LANCZOS)
    palette = small.quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
    palette.save(Path(__file__).with_name("heatmap.png"), optimize=True)


if __name__ == "__main__":
    main()
