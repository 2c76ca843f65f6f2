import io

import duckdb
import numpy as np
import pytest
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def encode(con, raw: bytes, edge: int, kind: str) -> bytes:
    return con.execute("select encode_image(?, ?, ?)", [raw, edge, kind]).fetchone()[0]


def test_a_png_is_the_crop_pixel_by_pixel(con):
    image = Image.open(io.BytesIO(encode(con, PIXELS.tobytes(), 16, "png")))
    assert image.format == "PNG"
    assert (np.asarray(image) == PIXELS).all()


def test_a_jpeg_is_nearly_the_crop(con):
    smooth = np.full((16, 16, 3), (180, 90, 140), np.uint8)
    image = Image.open(io.BytesIO(encode(con, smooth.tobytes(), 16, "jpeg")))
    assert image.format == "JPEG"
    assert np.abs(np.asarray(image).astype(int) - smooth).max() <= 3


def test_an_unknown_format_is_refused_with_those_that_are_known(con):
    with pytest.raises(duckdb.InvalidInputException, match="'gif' is not known; known are jpeg, png"):
        encode(con, PIXELS.tobytes(), 16, "gif")


@pytest.mark.parametrize("edge", [15, 17, 0, -16])
def test_bytes_that_do_not_fit_the_edge_are_refused(con, edge):
    with pytest.raises(duckdb.InvalidInputException, match=f"a crop of {edge} x {edge} px has .* bytes, not 768"):
        encode(con, PIXELS.tobytes(), edge, "png")
