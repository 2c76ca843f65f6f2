import numpy as np
import pytest

from udfs.slide_properties import _number, _plausible_mpp, _whole


def properties(con, path) -> dict[str, object]:
    return con.execute("select slide_properties(?)", [str(path)]).fetchone()[0]


def grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def test_a_slide_tells_its_size_levels_and_both_resolutions(con, tmp_path, write_slide):
    path = write_slide(tmp_path / "slide.tif", grey(300, 200), grey(150, 100), mpp=(0.25, 0.5))
    found = properties(con, path)
    assert found.pop("mpp_x") == pytest.approx(0.25)
    assert found.pop("mpp_y") == pytest.approx(0.5)
    assert found == {
        "vendor": "generic-tiff",
        "width": 300,
        "height": 200,
        "level_count": 2,
        "objective_power": None,
        "bounds_x": None,
        "bounds_y": None,
        "bounds_width": None,
        "bounds_height": None,
        "bytes": (tmp_path / "slide.tif").stat().st_size,
        "error": None,
    }


@pytest.mark.parametrize("mpp", [(1e-4, 1e-4), (5000, 5000)])
def test_a_resolution_that_no_scanner_has_is_null(con, tmp_path, write_slide, mpp):
    found = properties(con, write_slide(tmp_path / "slide.tif", grey(64, 64), mpp=mpp))
    assert (found["mpp_x"], found["mpp_y"], found["error"]) == (None, None, None)


def test_numbers_of_vendors_that_are_no_numbers_are_null():
    assert [_number(text) for text in (None, "", "x", "nan", "inf", "20", "1e1")] == [None] * 5 + [20, 10]
    assert [_whole(text) for text in ("inf", "nan", "3.9999", "-4")] == [None, None, 4, -4]
    assert [_plausible_mpp(text) for text in ("nan", "0", "-1", "0.25")] == [None, None, None, 0.25]


def test_a_slide_that_cannot_be_opened_has_an_error_and_nothing_else(con, tmp_path):
    (tmp_path / "text.svs").write_text("not a slide")
    for name in ("text.svs", "missing.svs"):
        found = properties(con, tmp_path / name)
        assert str(tmp_path / name) in found.pop("error")
        assert set(found.values()) == {None}


def test_every_bad_file_has_an_error_text_and_none_raises(con, shared_data):
    files = sorted(path for path in (shared_data / "slides" / "bad").rglob("*") if path.is_file())
    assert files
    for path in files:
        error = properties(con, path)["error"]
        assert error.startswith(f"{path}: ")
        assert "\n" not in error


def test_a_real_aperio_slide_tells_its_scanner_and_no_patient(con, shared_data):
    found = properties(con, shared_data / "slides" / "CMU-1-Small-Region.svs")
    assert found["vendor"] == "aperio"
    assert (found["width"], found["height"], found["level_count"]) == (2220, 2967, 1)
    assert (found["mpp_x"], found["mpp_y"], found["objective_power"]) == (0.499, 0.499, 20)
    assert found["error"] is None


def test_a_real_dicom_slide_has_two_resolutions_and_the_bytes_of_all_its_files(con, shared_data):
    folder = shared_data / "slides" / "multi_frame_jpeg_camelyon_challenge_image"
    found = properties(con, next(folder.glob("*.dcm")))
    assert found["vendor"] == "dicom"
    assert 28 < found["mpp_y"] < found["mpp_x"] < 30
    assert found["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
