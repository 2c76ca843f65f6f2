"""`histolake fetch camelyon16` from a server with the layout of the public bucket."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from slide_server import SlideServer, serving
from support import Answer, TestLake, asap, run_command, write_slide

from lake.camelyon16 import checksums
from udfs import download

SLIDES = {"tumor_001": (320, 192, 256, 256), "normal_001": None, "test_001": (320, 192, 128, 128)}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the bucket's, with small slides."""
    folder = tmp_path_factory.mktemp("CAMELYON16")
    for name in ("images", "annotations", "masks", "evaluation"):
        (folder / name).mkdir()
    for name, tumor in SLIDES.items():
        write_slide(folder / "images" / f"{name}.tif", tumor=tumor).with_suffix(".xml").unlink()
        (folder / "masks" / f"{name}_mask.tif").write_bytes(name.encode() * 99)
        if tumor:
            (folder / "annotations" / f"{name}.xml").write_text(asap([("_0", tumor)]))
    (folder / "evaluation" / "reference.csv").write_text("test_001.tif,positive,micro\n")
    (folder / "license.txt").write_text("CC0")
    (folder / "README.md").write_text("# Camelyon16")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.md5(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}" for file in files]
    (folder / "checksums.md5").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def server(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlideServer]:
    """A server of a copy of it."""
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    with serving(Path(shutil.copytree(published, tmp_path / "published"))) as served:
        yield served


def fetch(server: SlideServer, tmp_path: Path, slides: str) -> Answer:
    return run_command(
        "fetch", "camelyon16", "--slides", slides, "--into", str(tmp_path / "mine"), "--from", server.address
    )


def test_slides_come_with_annotations_reference_and_the_next_command(
    server: SlideServer, tmp_path: Path, lake: TestLake
) -> None:
    answer = fetch(server, tmp_path, "tumor_001,normal_001,test_001")
    assert answer.status == 0, answer.err
    mine = tmp_path / "mine"
    names = {str(path.relative_to(server.folder)) for path in server.folder.rglob("*") if path.is_file()}
    assert {str(path.relative_to(mine)) for path in mine.rglob("*") if path.is_file()} == names | {
        ".lock",
        "manifest.csv",
    }
    for name in names:
        assert (mine / name).read_bytes() == (server.folder / name).read_bytes()
    [line] = [line for line in answer.err.splitlines() if line.startswith("next:")]
    lake.ok(*line.split()[2:])
    rows = lake.read("slides").sort("slide_id").select("slide_id", "label", "status").rows()
    assert rows == [("normal_001", "normal", "ok"), ("test_001", "tumor", "ok"), ("tumor_001", "tumor", "ok")]
    assert lake.read("slides").filter(slide_id="test_001")["split"].to_list() == ["test"]
    assert set(lake.read("annotations")["slide_id"]) == {"tumor_001", "test_001"}


def test_what_is_complete_is_not_fetched_again_and_more_slides_join(server: SlideServer, tmp_path: Path) -> None:
    assert fetch(server, tmp_path, "normal_001").status == 0
    assert not (tmp_path / "mine" / "annotations").exists()
    server.requests.clear()
    answer = fetch(server, tmp_path, "normal_001")
    assert "nothing to do" in answer.err
    assert {name for name, _ in server.requests} == {"checksums.md5", "annotations/normal_001.xml"}
    fetch(server, tmp_path, "tumor_001")
    text = (tmp_path / "mine" / "manifest.csv").read_text().split()
    assert text[1:] == ["normal_001,images/normal_001.tif,,normal", "tumor_001,images/tumor_001.tif,,tumor"]


def test_a_download_that_broke_off_is_resumed_and_verified(server: SlideServer, tmp_path: Path) -> None:
    server.cut_after, server.has_ranges = 70_000, False
    answer = fetch(server, tmp_path, "tumor_001")
    assert answer.status == 1
    assert "tumor_001.tif: the connection broke off" in answer.err
    assert not (tmp_path / "mine" / "images" / "tumor_001.tif").exists()
    server.cut_after, server.has_ranges = None, True
    server.requests.clear()
    assert fetch(server, tmp_path, "tumor_001").status == 0
    [range_] = server.wholes("images/tumor_001.tif")
    assert range_ is not None
    assert int(range_[6:-1]) > 60_000


def test_a_file_that_is_not_what_was_published_is_deleted(server: SlideServer, tmp_path: Path) -> None:
    slide = server.folder / "images" / "tumor_001.tif"
    slide.write_bytes(slide.read_bytes()[::-1])
    answer = fetch(server, tmp_path, "tumor_001")
    assert answer.status == 1
    assert "images/tumor_001.tif: not what checksums.md5 says" in answer.err
    assert list((tmp_path / "mine" / "images").iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("tumor_1", "did you mean tumor_001?"),
        ("tumour_001", "did you mean tumor_001"),
        ("CMU-1", "slides are called like tumor_001"),
        (" , ", "name at least one"),
    ],
)
def test_a_slide_that_the_challenge_lacks(server: SlideServer, tmp_path: Path, asked: str, words: str) -> None:
    answer = fetch(server, tmp_path, asked)
    assert answer.status == 1
    assert words in answer.err
    assert not (tmp_path / "mine" / "images").exists()


def test_without_network_it_says_so(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    with serving(published) as gone:
        pass
    answer = fetch(gone, tmp_path, "tumor_001")
    assert (answer.status, answer.err.count("\n")) == (1, 1)
    assert "checksums.md5: the server cannot be reached, in 5 tries; try again later" in answer.err


def test_lines_of_checksums_are_read_however_they_name_the_files() -> None:
    md5 = "0123456789abcdef" * 2
    for name in ("images/a b.tif", "./images/a b.tif", "CAMELYON16/images/a b.tif"):
        for space in ("  ", " *", "\t"):
            assert checksums(f"{md5.upper()}{space}{name}\r\n# comment\n") == {"images/a b.tif": md5}
