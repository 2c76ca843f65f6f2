import hashlib

import pytest

from udfs.files import slide_files


def fingerprint(con, path) -> str | None:
    return con.execute("select file_fingerprint(?)", [str(path)]).fetchone()[0]


def test_a_file_keeps_its_fingerprint_when_it_is_renamed(con, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(range(256)) * 100)
    before = fingerprint(con, path)
    assert len(before) == 16
    assert fingerprint(con, path.rename(tmp_path / "b.tif")) == before


@pytest.mark.parametrize("place", [0, 12_345, 25_599])
def test_a_change_anywhere_in_a_small_file_changes_its_fingerprint(con, tmp_path, place):
    content = bytearray(bytes(range(256)) * 100)
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    before = fingerprint(con, path)
    content[place] ^= 1
    path.write_bytes(content)
    assert fingerprint(con, path) != before


def test_bytes_added_to_a_file_change_its_fingerprint(con, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(10_000_000))
    before = fingerprint(con, path)
    path.write_bytes(bytes(10_000_001))
    assert fingerprint(con, path) != before


def test_a_slide_of_several_files_changes_with_each_of_them(con, tmp_path):
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"slide")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0001.dat").write_bytes(b"pixels")
    before = fingerprint(con, path)
    (tmp_path / "a" / "Data0002.dat").write_bytes(b"pixels")
    assert fingerprint(con, path) != before
    assert [file.name for file in slide_files(path)] == ["a.mrxs", "Data0001.dat", "Data0002.dat"] or len(
        slide_files(path)
    ) == 3


def test_the_hash_of_a_file_is_its_sha_256(con, tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(b"content")
    assert con.execute("select file_hash(?)", [str(path)]).fetchone() == (hashlib.sha256(b"content").hexdigest(),)


@pytest.mark.parametrize("name", ["missing", "folder", "nul\0"])
def test_a_file_that_cannot_be_read_has_neither_fingerprint_nor_hash(con, tmp_path, name):
    (tmp_path / "folder").mkdir()
    con.execute("create table files as select chr(0) as nul")
    path = str(tmp_path / name)
    assert con.execute("select file_fingerprint($1), file_hash($1)", [path]).fetchone() == (None, None)


def test_an_empty_file_has_a_fingerprint(con, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert fingerprint(con, tmp_path / "empty") is not None
