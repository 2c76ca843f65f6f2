"""The workflow on slides at addresses: the same tables as of local slides, each slide downloaded once."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slide_server import SlideServer, serving
from support import ROOT, TestLake, until, write_slide

from lake import prefetch
from lake.prefetch import Ahead
from lake.units import Unit
from udfs import download, slide_cache
from udfs.slide_cache import is_here
from udfs.slide_readers import readers


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlideServer]:
    """A server of a folder with three slides, and an empty cache."""
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(slide_cache, "FAILURE_SECONDS", 0.0)
    (tmp_path / "served").mkdir()
    for name in ("one", "two", "three"):
        write_slide(tmp_path / "served" / f"{name}.tif", tumor=(320, 192, 128, 256))
    with serving(tmp_path / "served") as served:
        yield served
    close_slides()


def close_slides() -> None:
    readers.close()


def empty_cache(server: SlideServer) -> None:
    close_slides()
    shutil.rmtree(server.folder.parent / "cache")


def urls(server: SlideServer) -> list[str]:
    return [server.url(f"{name}.tif") for name in ("one", "two", "three")]


@pytest.mark.slow
def test_a_lake_of_slides_at_addresses_equals_one_of_local_slides(
    lake: TestLake, server: SlideServer, tmp_path: Path, tiny_onnx: Path
) -> None:
    local = TestLake(Path(shutil.copytree(lake.root, tmp_path / "local")))
    lake.ok("ingest", *urls(server), "--annotations", str(server.folder))
    local.ok("ingest", str(server.folder), "--annotations", str(server.folder))
    for each in (lake, local):
        each.ok("run", *each.tiling)
    slides = lake.read("slides").sort("slide_id")
    assert slides["path"].to_list() == sorted(urls(server))
    assert slides.drop("path").equals(local.read("slides").sort("slide_id").drop("path"))
    for table in ("patches", "features", "labels"):
        mine, theirs = (each.read(table).sort("slide_id", "x", "y") for each in (lake, local))
        assert mine.height
        assert mine.equals(theirs), table
    for name in ("one.tif", "two.tif", "three.tif"):
        assert server.wholes(name) == [None]
    assert lake.ok("run", *lake.tiling).err.count("nothing to do") == 1
    picture = tmp_path / "patches.png"
    lake.ok("show", "one", "--out", str(picture))
    assert picture.is_file()


@pytest.mark.slow
def test_what_is_unchanged_is_told_by_samples_and_not_fetched(lake: TestLake, server: SlideServer) -> None:
    lake.ok("ingest", *urls(server))
    empty_cache(server)
    server.requests.clear()
    assert "nothing to do" in lake.ok("ingest", *urls(server)).err
    assert [server.wholes(f"{name}.tif") for name in ("one", "two", "three")] == [[], [], []]
    write_slide(server.folder / "one.tif", tissue=(100, 100, 300, 300))
    before = lake.read("slides").filter(slide_id="one")["fingerprint"][0]
    lake.ok("ingest", *urls(server))
    assert server.wholes("one.tif") == [None]
    assert lake.read("slides").filter(slide_id="one")["fingerprint"][0] != before


@pytest.mark.slow
def test_a_slide_that_moves_to_a_server_is_not_embedded_again(lake: TestLake, server: SlideServer) -> None:
    old = server.folder.parent / "old"
    shutil.copytree(server.folder, old)
    lake.ok("ingest", str(old / "one.tif"))
    lake.ok("run", *lake.tiling)
    shutil.rmtree(old)
    features = lake.versions()["features"]
    lake.ok("ingest", server.url("one.tif"))
    assert lake.read("slides")["path"].to_list() == [server.url("one.tif")]
    assert "nothing to do" in lake.ok("run", *lake.tiling).err
    assert lake.versions()["features"] == features


@pytest.mark.slow
def test_a_server_without_ranges_gives_the_same_fingerprint(lake: TestLake, server: SlideServer) -> None:
    lake.ok("ingest", *urls(server))
    server.has_ranges = False
    assert "nothing to do" in lake.ok("ingest", *urls(server)).err


def test_what_cannot_be_fetched_is_a_row_with_the_reason_and_the_others_go_on(
    lake: TestLake, server: SlideServer
) -> None:
    answer = lake("ingest", *urls(server), server.url("missing.tif"))
    assert answer.status == 1
    assert f"failed: slides of missing: {server.url('missing.tif')}: not there (404 Not Found)" in answer.err
    states = lake.read("slides").sort("slide_id").select("slide_id", "status").rows()
    assert states == [("missing", "failed"), ("one", "ok"), ("three", "ok"), ("two", "ok")]
    shutil.copy(server.folder / "one.tif", server.folder / "missing.tif")
    lake.ok("ingest", server.url("missing.tif"))
    assert set(lake.read("slides")["status"]) == {"ok"}


@pytest.mark.slow
def test_a_slide_that_vanishes_between_stages_fails_alone(lake: TestLake, server: SlideServer, tmp_path: Path) -> None:
    lake.ok("ingest", *urls(server))
    empty_cache(server)
    content = (server.folder / "two.tif").read_bytes()
    (server.folder / "two.tif").unlink()
    answer = lake("run", *lake.tiling)
    assert answer.status == 1
    assert f"patches of two: {server.url('two.tif')}: not there" in answer.err
    ledger = lake.read("runs").filter(stage="patches").sort("slide_id").select("slide_id", "status").rows()
    assert ledger == [("one", "ok"), ("three", "ok"), ("two", "failed")]
    (server.folder / "two.tif").write_bytes(content)
    lake.ok("run", *lake.tiling, "--retry-failed")
    assert lake.read("features")["slide_id"].n_unique() == 3


@pytest.mark.slow
def test_a_cache_with_room_for_one_slide_is_enough(
    lake: TestLake, server: SlideServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    largest = max(file.stat().st_size for file in server.folder.glob("*.tif"))
    monkeypatch.setenv("HISTOLAKE_CACHE_GB", str(largest * 1.5 / 1e9))
    lake.ok("ingest", *urls(server))
    lake.ok("run", *lake.tiling)
    assert lake.read("features")["slide_id"].n_unique() == 3
    assert len(list((tmp_path / "cache").rglob("*.tif"))) == 1


def test_presigned_addresses_are_refused_before_anything_is_written(lake: TestLake, server: SlideServer) -> None:
    before = lake.versions()
    signed = f"{server.url('one.tif')}?X-Amz-Signature=secret"
    manifest = server.folder / "manifest.csv"
    manifest.write_text(f"slide_id,path\none,{signed}\n")
    for words in ([signed], ["--manifest", str(manifest)]):
        answer = lake("ingest", *words)
        assert answer.status == 1
        assert "presigned" in answer.err
        assert "secret" not in answer.err + answer.out
    assert lake.versions() == before
    assert server.requests == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("gs://bucket/a.svs", "s3://, https://, http://"),
        ("https://host/*.svs", "cannot be searched"),
        ("https://host/folder", "cannot be searched"),
        ("https://host/a.mrxs", "several files"),
        ("https:///a.svs", "no host"),
    ],
)
def test_addresses_that_cannot_be_slides(lake: TestLake, pattern: str, words: str) -> None:
    before = lake.versions()
    answer = lake("ingest", pattern)
    assert (answer.status, answer.err.count("\n")) == (1, 1)
    assert pattern in answer.err
    assert words in answer.err
    assert lake.versions() == before


def test_a_manifest_may_name_addresses_beside_files(lake: TestLake, server: SlideServer) -> None:
    manifest = server.folder / "manifest.csv"
    manifest.write_text(f"slide_id,path,split\nfirst,{server.url('one.tif')},test\nsecond,two.tif,train\n")
    lake.ok("ingest", "--manifest", str(manifest))
    rows = lake.read("slides").sort("slide_id").select("slide_id", "path", "split").rows()
    assert rows == [("first", server.url("one.tif"), "test"), ("second", str(server.folder / "two.tif"), "train")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as POSIX does")
def test_ctrl_c_while_samples_are_read_is_no_traceback(lake: TestLake, server: SlideServer) -> None:
    server.stall_after = 2_000
    command = [sys.executable, "-m", "lake", "ingest", server.url("one.tif"), "--lake", str(lake.root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: server.sent >= 2_000, "samples are read")
    process.send_signal(signal.SIGINT)
    server.go_on.set()
    told = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in told) == (130, False), told


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as POSIX does")
def test_ctrl_c_stops_a_download_and_the_next_run_goes_on_from_there(lake: TestLake, server: SlideServer) -> None:
    server.stall_after = 100_000
    command = [sys.executable, "-m", "lake", "ingest", server.url("one.tif"), "--lake", str(lake.root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kept = server.folder.parent / "cache"
    until(lambda: any(part.stat().st_size >= 2**16 // 2 for part in kept.rglob("*.part/*.tif")), "a part has come")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    server.go_on.set()  # a silent server would be given up after READ_SECONDS
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "stopped; what was committed stays" in told
    assert lake.read("slides").is_empty()
    server.stall_after = None
    lake.ok("ingest", server.url("one.tif"))
    first, second = server.wholes("one.tif")
    assert first is None
    assert second is not None
    assert int(second[6:-1]) >= 2**16 // 2


def units(*names: str) -> list[Unit]:
    return [Unit(name, "{}", 0, False, "", 0, 1) for name in names]


def test_the_next_slides_come_while_one_is_computed_and_no_more(server: SlideServer) -> None:
    names = [f"slide_{number}" for number in range(6)]
    for name in names:
        shutil.copy(server.folder / "one.tif", server.folder / f"{name}.tif")
    addresses = {name: server.url(f"{name}.tif") for name in names}
    with Ahead(units(*names), addresses) as ahead:
        taken = iter(ahead)
        first = next(taken)
        until(lambda: all(map(is_here, list(addresses.values())[: 1 + prefetch.AHEAD])), "the next ones have come")
        assert not is_here(addresses["slide_3"])
        ahead.done(first)
        next(taken)
        until(lambda: is_here(addresses["slide_3"]), "one more has come")
        assert not is_here(addresses["slide_4"])


def test_a_copy_is_kept_until_the_last_unit_of_its_slide_is_done(
    server: SlideServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = server.url("one.tif"), server.url("two.tif")
    largest = max(file.stat().st_size for file in server.folder.glob("*.tif"))
    monkeypatch.setenv("HISTOLAKE_CACHE_GB", str(largest * 1.5 / 1e9))
    monkeypatch.setattr(slide_cache, "ROOM_SECONDS", 0.0)
    parts = units("one", "one", "two")
    with Ahead(parts, {"one": one, "two": two}) as ahead:
        taken = iter(ahead)
        next(taken)
        until(lambda: "one" in ahead._held, "the first is held")
        for part in parts[:2]:
            with pytest.raises(slide_cache.NoRoomError):
                slide_cache.local(two)
            ahead.done(part)
        assert slide_cache.local(two)
