"""Slides in a bucket of moto's server: objects, folders, patterns, and slides of several files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slide_server import serving

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

import s3fs  # noqa: E402

from udfs import download, remote_s3, slide_cache  # noqa: E402
from udfs.errors import FetchError, MissingError  # noqa: E402
from udfs.files import _fingerprint  # noqa: E402
from udfs.remote import ChangedError, RemoteFile, store_of  # noqa: E402
from udfs.slide_cache import doubt, local  # noqa: E402

pytestmark = pytest.mark.slow

ENDINGS = {".tif", ".mrxs", ".dcm"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a store."""
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[s3fs.S3FileSystem]:
    """A file system with an empty bucket `slides`, credentials in the environment, and an empty cache."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "hushhush",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "HISTOLAKE_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(slide_cache, "FAILURE_SECONDS", 0.0)
    remote_s3._system.cache_clear()
    system = s3fs.S3FileSystem(endpoint_url=endpoint, skip_instance_cache=True, use_listings_cache=False)
    system.mkdir("slides")
    yield system
    system.rm("slides", recursive=True)
    remote_s3._system.cache_clear()


def put(bucket: s3fs.S3FileSystem, folder: Path, **files: bytes) -> None:
    """Write the files below the folder, and the same into the bucket; __ stands for /, _DOT_ for a dot."""
    for name, content in files.items():
        path = name.replace("__", "/").replace("_DOT_", ".")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        bucket.pipe_file(f"slides/{path}", content)


def test_an_object_is_fetched_whole_and_has_the_fingerprint_of_the_file(
    bucket: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_s3, "BLOCK", 100_000)
    content = bytes(range(256)) * 4000
    put(bucket, tmp_path / "here", a_DOT_tif=content)
    assert _fingerprint("s3://slides/a.tif") == _fingerprint(str(tmp_path / "here" / "a.tif"))
    copy = local("s3://slides/a.tif")
    assert Path(copy.file).read_bytes() == content
    bucket.pipe_file("slides/a.tif", b"other")
    doubt("s3://slides/a.tif")
    assert Path(local("s3://slides/a.tif").file).read_bytes() == b"other"


def test_a_beginning_is_completed(bucket: s3fs.S3FileSystem, tmp_path: Path) -> None:
    put(bucket, tmp_path / "here", a_DOT_tif=b"0123456789")
    [file] = store_of("s3://slides/a.tif").files("s3://slides/a.tif")
    start, blocks = store_of(file.address).open(file, 4)
    assert (start, b"".join(blocks)) == (4, b"456789")


def test_another_version_is_found_out_before_and_while_it_is_read(
    bucket: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_s3, "BLOCK", 5)
    put(bucket, tmp_path / "here", a_DOT_tif=b"0123456789")
    [file] = store_of("s3://slides/a.tif").files("s3://slides/a.tif")
    _, blocks = store_of(file.address).open(file, 0)
    assert next(blocks) == b"01234"
    bucket.pipe_file("slides/a.tif", b"abcdefghij")
    with pytest.raises(ChangedError, match=r"s3://slides/a\.tif: the object changed"):
        next(blocks)
    with pytest.raises(ChangedError):
        next(store_of(file.address).open(file, 0)[1])


@pytest.mark.parametrize("name", ["a.mrxs", "series/0001.dcm"])
def test_a_slide_of_several_files_is_a_unit(bucket: s3fs.S3FileSystem, tmp_path: Path, name: str) -> None:
    here = tmp_path / "here"
    put(bucket, here, a_DOT_mrxs=b"slide", a__Index_DOT_dat=b"index", a__Data0001_DOT_dat=b"pixels", b_DOT_mrxs=b"no")
    put(bucket, here, series__0001_DOT_dcm=b"one", series__0002_DOT_dcm=b"two", series__notes_DOT_txt=b"not")
    address = f"s3://slides/{name}"
    copy = local(address)
    folder = Path(copy.file).parent
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"about.json"}
    assert found == ({"a.mrxs", "a/Index.dat", "a/Data0001.dat"} if name == "a.mrxs" else {"0001.dcm", "0002.dcm"})
    mark = _fingerprint(address)
    assert mark is not None
    if name == "a.mrxs":
        assert mark == _fingerprint(str(here / name)) == _fingerprint(copy.file)
        put(bucket, here, a__Data0002_DOT_dat=b"more")
    else:
        assert mark == _fingerprint(str(here / name)) == _fingerprint(copy.file)
        put(bucket, here, series__0003_DOT_dcm=b"more")
    assert _fingerprint(address) == _fingerprint(str(here / name)) != mark
    second = local(address)
    assert Path(second.file).parent != folder


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("s3://slides/a.tif", ["a.tif"]),
        ("s3://slides/*.tif", ["a.tif", "b.tif"]),
        ("s3://slides/?.tif", ["a.tif", "b.tif"]),
        ("s3://slides/**/*.tif", ["a.tif", "b.tif", "deep/c.tif"]),
        ("s3://slides/deep/", ["deep/c.tif"]),
        ("s3://slides/series", ["series/1.dcm"]),
        ("s3://slides", ["a.tif", "b.tif", "deep/c.tif", "series/1.dcm"]),
        ("s3://slides/nothing*", []),
    ],
)
def test_patterns_and_folders(bucket: s3fs.S3FileSystem, tmp_path: Path, pattern: str, found: list[str]) -> None:
    put(bucket, tmp_path, a_DOT_tif=b"a", b_DOT_tif=b"b", deep__c_DOT_tif=b"c", deep__c_DOT_xml=b"x")
    put(bucket, tmp_path, series__1_DOT_dcm=b"1", series__2_DOT_dcm=b"2")
    assert store_of(pattern).find(pattern, ENDINGS) == [f"s3://slides/{name}" for name in found]


def test_public_buckets_need_no_credentials(
    bucket: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, tmp_path / "here", a_DOT_tif=b"public", b_DOT_tif=b"private")
    bucket.chmod("slides/a.tif", acl="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    remote_s3._system.cache_clear()
    assert remote_s3._system().anon
    assert Path(local("s3://slides/a.tif").file).read_bytes() == b"public"
    with pytest.raises(FetchError, match=r"s3://slides/b\.tif: access is denied without credentials"):
        local("s3://slides/b.tif")


@pytest.mark.parametrize("address", ["s3://slides/nothing.tif", "s3://nobodys/a.tif"])
def test_what_is_not_there_is_named(bucket: s3fs.S3FileSystem, address: str) -> None:
    with pytest.raises(MissingError, match=f"{address}: not there"):
        local(address)


def test_a_refusal_and_a_broken_line_name_no_credentials(
    bucket: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as other:
        other.status = 403
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", other.address)
        remote_s3._system.cache_clear()
        with pytest.raises(FetchError, match="access is denied with the credentials of the environment") as refused:
            local("s3://slides/a.tif")
    remote_s3._system.cache_clear()
    with pytest.raises(FetchError, match="cannot be reached") as broken:
        local("s3://slides/a.tif")
    for error in (refused, broken):
        assert "hushhush" not in str(error.value)
        assert "somebody" not in str(error.value)


def test_a_version_that_is_told_by_nothing_is_an_empty_one() -> None:
    file = remote_s3._file({"name": "slides/a.tif", "size": 3}, remote_s3.PurePosixPath("slides"))
    assert file == RemoteFile("s3://slides/a.tif", "a.tif", 3, "")
