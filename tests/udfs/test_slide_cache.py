"""Slides on a web server: fetched once, whole, resumed, of one version, and within the cache's limit."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from slide_server import SlideServer, serving
from support import ROOT, all_end, run, until, write_slide

from udfs import cache_room, download, remote_http, slide_cache
from udfs.errors import FetchError, SlideError
from udfs.slide import Area, read_area
from udfs.slide_cache import local
from udfs.slide_readers import readers

SIZE = 3_000_000  # bytes of the files that are no slides

FETCH = "import sys; from udfs.slide_cache import local; print(local(sys.argv[1]).file)"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlideServer]:
    """A server of an own folder, an empty cache, and little patience."""
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(slide_cache, "FAILURE_SECONDS", 0.0)
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as served:
        yield served
    readers.close()


def content(name: str, size: int = SIZE) -> bytes:
    return np.random.default_rng(list(name.encode())).bytes(size)


def put(server: SlideServer, name: str, size: int = SIZE) -> str:
    (server.folder / name).write_bytes(content(name, size))
    return server.url(name)


def left(tmp_path: Path) -> list[str]:
    """What lies in the cache besides locks and notes, without folders' names."""
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    return sorted(path.name for path in files if path.suffix != ".lock" and path.name != cache_room.ABOUT)


def parts(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*.part/*.tif"))


def test_a_slide_is_fetched_once_and_then_read_like_a_local_one(server: SlideServer) -> None:
    path = write_slide(server.folder / "one two.tif")
    address = server.url("one%20two.tif")
    area = Area(200, 100, 300, 300)
    for _ in range(3):
        assert np.array_equal(read_area(address, area, 99, 99), read_area(str(path), area, 99, 99))
    assert server.wholes("one two.tif") == [None]
    assert Path(local(address).file).name == "one two.tif"


def test_errors_speak_of_the_address(server: SlideServer) -> None:
    address = put(server, "no_slide.tif")
    with pytest.raises(SlideError, match=rf"^{address}: OpenSlide does not know this format"):
        read_area(address, Area(0, 0, 9, 9), 9, 9)


def test_many_threads_wait_for_one_download(server: SlideServer) -> None:
    address = put(server, "a.tif")
    server.stall_after = SIZE // 2
    found: list[str] = []
    together = threading.Barrier(8)

    def fetch() -> None:
        together.wait(60)
        found.append(local(address).file)

    threads = [threading.Thread(target=fetch, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: server.sent >= SIZE // 2, "half of it has come")
    server.go_on.set()
    all_end(threads)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert Path(found[0]).read_bytes() == content("a.tif")
    assert server.wholes("a.tif") == [None]


def fetching(address: str) -> subprocess.Popen[str]:
    """Another process that fetches the slide, with the same cache."""
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, address], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_download_a_slide_once(server: SlideServer) -> None:
    address = put(server, "a.tif")
    server.stall_after = SIZE // 2  # neither can be done before both are there
    processes = [fetching(address) for _ in range(2)]
    until(lambda: [range_ for _, range_ in server.requests].count("bytes=0-0") == 2, "both have asked")
    server.go_on.set()
    answers = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(answers) == 1
    assert Path(answers.pop()).read_bytes() == content("a.tif")
    assert server.wholes("a.tif") == [None]


def test_a_download_that_was_killed_is_resumed_by_the_next_process(server: SlideServer, tmp_path: Path) -> None:
    address = put(server, "a.tif")
    server.stall_after = 2_000_000
    process = fetching(address)
    until(lambda: any(part.stat().st_size > 1_000_000 for part in parts(tmp_path)), "a part is kept")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    [part] = parts(tmp_path)
    held = part.stat().st_size
    assert not slide_cache.is_here(address)
    server.stall_after = None
    assert Path(local(address).file).read_bytes() == content("a.tif")
    assert server.wholes("a.tif") == [None, f"bytes={held}-"]
    assert parts(tmp_path) == []


def test_a_server_that_cuts_every_connection_is_asked_for_the_rest(server: SlideServer) -> None:
    address = put(server, "a.tif")
    server.cut_after = 700_000
    assert Path(local(address).file).read_bytes() == content("a.tif")
    starts = [0 if range_ is None else int(range_[6:-1]) for range_ in server.wholes("a.tif")]
    assert len(starts) == 5
    assert starts == sorted(set(starts))


def test_a_server_that_sends_no_more_is_given_up_and_the_rest_comes_later(server: SlideServer, tmp_path: Path) -> None:
    address = put(server, "a.tif")
    server.cut_after = 1_000_000
    server.has_ranges = False
    with pytest.raises(FetchError, match=r"5 tries brought no more; try again later"):
        local(address)
    assert not slide_cache.is_here(address)
    [part] = parts(tmp_path)
    held = part.stat().st_size
    assert 900_000 < held <= 1_000_000
    server.has_ranges, server.cut_after = True, None
    assert Path(local(address).file).read_bytes() == content("a.tif")
    assert server.wholes("a.tif")[-1] == f"bytes={held}-"


def test_a_server_without_ranges_or_tags_sends_all_again(server: SlideServer) -> None:
    address = put(server, "a.tif")
    server.has_tags, server.cut_after, server.cuts = False, 1_000_000, 2
    assert Path(local(address).file).read_bytes() == content("a.tif")
    assert server.wholes("a.tif") == [None, None, None]
    address = put(server, "b.tif")
    server.has_tags, server.has_ranges, server.cuts = True, False, 1
    assert Path(local(address).file).read_bytes() == content("b.tif")


def test_a_connection_that_stalls_is_begun_anew(server: SlideServer, monkeypatch: pytest.MonkeyPatch) -> None:
    address = put(server, "a.tif")
    monkeypatch.setattr(remote_http, "READ_SECONDS", 2.0)
    server.stall_after = 2_000_000
    assert Path(local(address).file).read_bytes() == content("a.tif")
    assert len(server.wholes("a.tif")) == 2


def test_a_slide_that_changes_while_it_comes_is_begun_anew(server: SlideServer, tmp_path: Path) -> None:
    address = put(server, "a.tif")
    server.change_after = 1_000_000
    assert Path(local(address).file).read_bytes() == content("a.tif")[::-1]
    assert left(tmp_path) == ["a.tif"]


def test_a_slide_that_never_stops_changing_is_refused(server: SlideServer, tmp_path: Path) -> None:
    address = put(server, "a.tif")
    tags = iter(f'"{number}"' for number in range(1000))

    class Restless(list[tuple[str, str | None]]):
        def append(self, request: tuple[str, str | None]) -> None:
            super().append(request)
            server.tag = next(tags)

    server.requests = Restless()
    with pytest.raises(FetchError, match="is it still being written"):
        local(address)
    assert left(tmp_path) == []


def test_a_changed_slide_is_another_copy(server: SlideServer, monkeypatch: pytest.MonkeyPatch) -> None:
    address = put(server, "a.tif")
    first = local(address)
    (server.folder / "a.tif").write_bytes(b"other")
    assert local(address).file == first.file  # just compared
    slide_cache.doubt(address)
    second = local(address)
    assert Path(second.file).read_bytes() == b"other"
    assert Path(first.file).read_bytes() == content("a.tif")  # whoever still reads it may


def test_a_server_out_of_reach_leaves_the_copy_at_hand(tmp_path: Path, server: SlideServer) -> None:
    with serving(server.folder) as other:
        put(other, "a.tif")
        address = other.url("a.tif")
        file = local(address).file
    slide_cache.doubt(address)
    assert local(address).file == file
    with pytest.raises(FetchError, match="cannot be reached, in 5 tries"):
        local(address.replace("a.tif", "b.tif"))


@pytest.mark.parametrize(
    ("status", "words"), [(404, "not there"), (403, "access is denied"), (401, "netrc"), (400, "answers 400")]
)
def test_a_refusal_is_final_and_says_why(server: SlideServer, status: int, words: str, tmp_path: Path) -> None:
    address = put(server, "a.tif")
    server.status = status
    with pytest.raises(FetchError, match=rf"{address}: .*{words}"):
        local(address)
    assert len(server.requests) == 1
    assert left(tmp_path) == []


def test_a_busy_server_is_asked_again_but_not_for_ever(server: SlideServer) -> None:
    address = put(server, "a.tif")
    server.busy = 3
    assert Path(local(address).file).read_bytes() == content("a.tif")
    server.busy = 100
    with pytest.raises(FetchError, match="503"):
        local(put(server, "b.tif"))
    assert server.busy == 95


def test_a_slide_that_cannot_be_fetched_is_not_asked_for_by_each_of_its_patches(
    server: SlideServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_cache, "FAILURE_SECONDS", 60.0)
    for _ in range(50):
        with pytest.raises(FetchError, match="not there"):
            local(server.url("nothing.tif"))
    assert len(server.requests) == 1


def test_a_wrong_length_is_found_out(server: SlideServer, tmp_path: Path) -> None:
    address = put(server, "a.tif")
    server.claims = 5
    with pytest.raises(FetchError, match="changed while it was read"):  # it has nothing at 3,000,000
        local(address)
    assert not slide_cache.is_here(address)


def test_the_least_recently_used_goes_first_and_never_one_in_use(
    server: SlideServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HISTOLAKE_CACHE_GB", "0.0095")  # three copies
    a, b, c, d, e = (put(server, f"{name}.tif") for name in "abcde")
    kept = local(a)
    for address in (b, c):
        local(address)
        time.sleep(0.02)
    local(b)
    local(d)
    assert left(tmp_path) == ["a.tif", "b.tif", "d.tif"]
    del kept
    others = local(b), local(d)
    local(e)
    assert left(tmp_path) == ["b.tif", "d.tif", "e.tif"]
    assert others


def test_a_cache_full_of_slides_in_use_says_so(server: SlideServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOLAKE_CACHE_GB", "0.004")
    monkeypatch.setattr(slide_cache, "ROOM_SECONDS", 0.3)
    held = local(put(server, "a.tif"))
    b = put(server, "b.tif")
    with pytest.raises(FetchError, match=r"no room .* 0\.003 GB are in use; set HISTOLAKE_CACHE_GB"):
        local(b)
    timer = threading.Timer(0.2, lambda: Path(server.folder / "let_go").touch())
    timer.start()
    monkeypatch.setattr(slide_cache, "ROOM_SECONDS", 60.0)
    waiting = threading.Thread(target=lambda: local(b), daemon=True)
    waiting.start()
    until((server.folder / "let_go").exists, "it has waited a while")
    del held
    gc.collect()
    all_end([waiting])
    assert slide_cache.is_here(b)
    assert not slide_cache.is_here(server.url("a.tif"))


def test_open_slides_that_nobody_reads_make_room(server: SlideServer, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"slide_{number}.tif" for number in range(4)]
    sizes = [write_slide(server.folder / name).stat().st_size for name in names]
    monkeypatch.setenv("HISTOLAKE_CACHE_GB", str(max(sizes) * 1.5 / 1e9))
    for name in names * 2:
        assert read_area(server.url(name), Area(0, 0, 64, 64), 8, 8).shape == (8, 8, 3)
    assert [len(server.wholes(name)) for name in names] == [2] * 4


@pytest.mark.parametrize(("text", "words"), [("0.001", "0.003 GB, and the cache may hold 0.001"), ("lots", "number")])
def test_a_slide_larger_than_the_cache(
    server: SlideServer, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setenv("HISTOLAKE_CACHE_GB", text)
    with pytest.raises(FetchError, match=words):
        local(put(server, "a.tif"))
    assert server.wholes("a.tif") == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_leaves_nothing_behind_and_says_so(server: SlideServer, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the middle as on a full one."""
    limited = f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); \
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000)); {FETCH}"
    address = put(server, "a.tif")
    done = run([sys.executable, "-c", limited, address])
    said = done.stderr.splitlines()[-1]
    assert f"slides cannot be kept in {tmp_path / 'cache' / 'slides'}: the disk, or this user's share" in said
    assert address not in said  # in a lake of pseudonyms nobody may learn it
    assert left(tmp_path) == []


def test_a_disk_without_room_is_found_out_beforehand(server: SlideServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_room, "_free", lambda: 2_000_000)
    with pytest.raises(FetchError, match=r"has 0\.002 GB free, and the slide needs 0\.003 GB"):
        local(put(server, "a.tif"))
    assert server.wholes("a.tif") == []


def test_a_cache_that_cannot_be_written(server: SlideServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "file"))
    with pytest.raises(FetchError, match=r"cannot be kept in .*/file/slides: Not a directory; .* HISTOLAKE_CACHE"):
        local(put(server, "a.tif"))


def test_copies_are_for_their_user_alone_unless_the_folder_was_made_open(server: SlideServer, tmp_path: Path) -> None:
    local(put(server, "a.tif"))
    folder = tmp_path / "cache" / "slides"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)
    local(put(server, "b.tif"))
    assert folder.stat().st_mode & 0o777 == 0o750


def test_downloads_stop_when_they_are_told_to(server: SlideServer) -> None:
    address = put(server, "a.tif", 20_000_000)
    server.stall_after = 1_000_000
    failures: list[Exception] = []

    def fetch() -> None:
        try:
            local(address)
        except FetchError as error:
            failures.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    until(lambda: server.sent, "it has begun")
    until(lambda: slide_cache.coming.get("a.tif", (0, 0))[0], "it is known to come")
    slide_cache.stop_fetching()
    server.go_on.set()
    all_end([thread])
    assert "stopped" in str(failures[0])


def test_an_unsafe_connection_is_refused(server: SlideServer) -> None:
    address = put(server, "a.tif").replace("http://", "https://")
    with pytest.raises(FetchError, match=r"no safe connection .*REQUESTS_CA_BUNDLE"):
        local(address)


@pytest.mark.parametrize(
    "address",
    [
        "https://host/a.svs?X-Amz-Signature=secret",
        "https://host/a.svs#secret",
        "https://user:secret@host/a.svs",  # pragma: allowlist secret
        "s3://key:secret@bucket/a.svs",  # pragma: allowlist secret
    ],
)
def test_an_address_with_a_secret_is_refused_without_repeating_it(server: SlideServer, address: str) -> None:
    with pytest.raises(SlideError) as refused:
        local(address)
    assert "secret" not in str(refused.value)
    assert "environment" in str(refused.value)
