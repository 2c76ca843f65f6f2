"""`histolake doctor`: a machine that is well, and each check's bad case, made for real."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from support import TestLake, run, run_command

from lake import cgroups, doctor, doctor_lake, doctor_machine, doctor_pixels, session, storage, store
from lake.choices import lake_path
from lake.doctor_notes import Note, Status, ok
from udfs.encoders import inception_v3, sessions
from udfs.encoders.onnx_file import inspect

IN_CHILD = """
import resource, sys
from pathlib import Path
from lake import doctor
exec(sys.argv[1])
for each in doctor.examine(Path(sys.argv[2]), {name: doctor.CHECKS[name] for name in sys.argv[3:]}):
    print(each.status, each.check, each.message, each.remedy, sep="|")
"""


def told(root: Path, check: str) -> list[tuple[str, str]]:
    """Status and message of the lines of one check, in this process."""
    found = doctor.examine(root, {check: doctor.CHECKS[check]})
    return [(str(each.status), each.message) for each in found]


def told_after(preparation: str, root: Path, check: str, **environment: str) -> list[str]:
    """The lines of one check in a process of its own that first did `preparation`."""
    words = [sys.executable, "-c", IN_CHILD, preparation, str(root), check]
    done = run(words, env={**os.environ, **environment}, check=True)
    return done.stdout.splitlines()


def test_a_machine_and_a_lake_that_are_well_are_ok_in_every_line(full_lake: TestLake) -> None:
    before = full_lake.versions()
    answer = full_lake("doctor", "--json")
    found = answer.json()
    assert {each["check"] for each in found} == set(doctor.CHECKS)
    scarce = {"disk", "memory", "processors", "open files"}  # of the machine that runs the tests
    assert [each for each in found if each["status"] != "ok" and each["check"] not in scarce] == []
    assert full_lake.versions() == before
    assert not list(full_lake.root.glob(".histolake-doctor-*"))


def test_what_is_piped_is_a_line_a_finding_and_tells_the_worst_by_its_exit_status(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    words = [sys.executable, "-m", "lake", "doctor", "--lake", str(tmp_path / "file")]
    plain = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # set, it asks for a table
    done = run(words, env=plain)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert {line.partition(" ")[0] for line in lines} <= set(Status)
    assert any(line.startswith("error    lake") and "name a folder" in line for line in lines)
    assert "0 errors" not in done.stderr
    assert run_command("doctor", "--lake", str(tmp_path / "none")).status == 0  # a warning is no error


def test_a_check_that_fails_is_an_error_of_its_own(tmp_path: Path) -> None:
    def broken(_: Path) -> Iterator[Note]:
        yield ok("as far as this")
        raise ZeroDivisionError("by zero")

    found = list(doctor.examine(tmp_path, {"broken": broken, "python": doctor_machine.python}))
    assert [(each.check, str(each.status)) for each in found] == [
        ("broken", "ok"),
        ("broken", "error"),
        ("python", "ok"),
    ]
    assert "by zero" in found[1].message


def distribution(folder: Path, name: str, version: str) -> None:
    """What importlib.metadata takes for an installed package."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(("name", "version"), [("duckdb", "0.9.2"), ("streamlit", "9.0")])
def test_a_package_out_of_its_range_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    distribution(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    [(status, message)] = told(tmp_path, "packages")
    assert status == "error"
    assert message.startswith(f"{name} {version}, ")


def test_a_package_that_is_not_installed_and_another_python_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "histolake-9.dist-info"
    info.mkdir()
    head = "Metadata-Version: 2.1\nName: histolake\nVersion: 9\nRequires-Python: >=4\n"
    (info / "METADATA").write_text(head + "Requires-Dist: no-such-package-here>=1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert told(tmp_path, "packages") == [("error", "no-such-package-here is not installed")]
    [(status, message)] = told(tmp_path, "python")
    assert (status, message.endswith(">=4 is needed")) == ("error", True)


def test_an_old_ray_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "ray", "1.13.0")
    monkeypatch.syspath_prepend(tmp_path)
    [(status, message)] = told(tmp_path, "ray")
    assert (status, message.startswith("ray 1.13.0, ")) == ("error", True)


def test_limits_of_control_groups_of_both_versions_are_seen(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("5:memory:/pod\n1:cpu,cpuacct:/pod\n0::/unit/inner\n")
    assert cgroups.memory_bytes(process, tmp_path) is None
    assert cgroups.processors(process, tmp_path) is None
    for folder in ("unit/inner", "memory/pod", "cpu/pod"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "unit/inner/memory.max").write_text("max\n")
    (tmp_path / "unit/memory.max").write_text("3000000000\n")  # the group around has less
    (tmp_path / "memory/pod/memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    (tmp_path / "unit/inner/cpu.max").write_text("150000 100000\n")
    assert cgroups.memory_bytes(process, tmp_path) == 3_000_000_000
    assert cgroups.processors(process, tmp_path) == 1.5
    (tmp_path / "cpu/pod/cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu/pod/cpu.cfs_period_us").write_text("100000\n")
    assert cgroups.processors(process, tmp_path) == 0.5


@pytest.mark.parametrize(("most", "status"), [("1500000000", "error"), ("3000000000", "warning")])
def test_little_memory_in_a_container_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str, status: str
) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text(most)
    (tmp_path / "cpu.max").write_text("50000 100000")
    monkeypatch.setattr(cgroups.memory_bytes, "__defaults__", (tmp_path / "cgroup", tmp_path))
    monkeypatch.setattr(cgroups.processors, "__defaults__", (tmp_path / "cgroup", tmp_path))
    [(found, message)] = told(tmp_path, "memory")
    assert found == status
    assert "of the container" in message
    assert told(tmp_path, "processors")[0][0] == "warning"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors are taken away on Linux")
def test_one_processor_and_few_open_files_are_told(tmp_path: Path) -> None:
    few = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    few += "resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))"
    words = [sys.executable, "-c", IN_CHILD, few, str(tmp_path), "processors", "open files"]
    found = {line.split("|")[1]: line for line in run(words, check=True).stdout.splitlines()}
    assert found["processors"].startswith("warning")
    assert found["open files"].startswith("warning|open files|512")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 KB left; only where the tests may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    run(["umount", folder], check=True)


def test_a_full_disk_is_an_error_where_it_is_measured_and_where_it_is_written(full_disk: Path) -> None:
    assert told(full_disk, "disk")[0][0] == "error"
    [(status, message)] = told(full_disk, "writing")
    assert (status, "No space left" in message) == ("error", True)
    assert list(full_disk.iterdir()) == []


def test_a_lake_that_cannot_be_written_is_an_error(lake: TestLake) -> None:
    """Whoever runs this may be root, who may write everywhere: no file may be as large as what is tried."""
    no_more = "resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))"
    [line] = told_after(no_more, lake.root, "writing")
    assert line.startswith("error|writing|")
    assert "File too large" in line
    assert not list(lake.root.glob(".histolake-doctor-*"))


def test_a_lake_below_a_file_can_be_neither_found_nor_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert told(tmp_path / "file/lake", "writing")[0][0] == "error"
    assert told(tmp_path / "file", "lake") == [("error", f"{tmp_path / 'file'} is a file")]


def test_a_lake_that_is_not_there_or_older_is_a_warning(lake: TestLake, tmp_path: Path) -> None:
    assert told(tmp_path / "none", "lake")[0][0] == "warning"
    (lake.root / "reviews").rename(tmp_path / "reviews")
    [(status, message)] = told(lake.root, "lake")
    assert (status, "older" in message) == ("warning", True)


def test_a_newer_lake_and_lost_files_are_errors(lake: TestLake) -> None:
    store.put(lake.root, "settings", [{"name": "format", "value": "99"}], "test")
    [(status, message)] = told(lake.root, "lake")
    assert (status, "format 99" in message) == ("error", True)
    for file in (lake.root / "settings").glob("*.parquet"):
        file.unlink()
    assert told(lake.root, "lake")[0][0] == "error"


def test_a_ledger_with_an_entry_of_the_future_is_an_error(lake: TestLake) -> None:
    assert told(lake.root, "ledger")[0][0] == "ok"
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    entry = store.entry("settings", run_id="test")
    store.record(lake.root, [store.Entry(**{**vars(entry), "finished_at": tomorrow})])
    [(status, message)] = told(lake.root, "ledger")
    assert (status, tomorrow[:10] in message) == ("error", True)


class Late(BaseHTTPRequestHandler):
    """Answers as an object store to a stranger: 403, and the time; an hour late."""

    late = 3600

    def do_HEAD(self) -> None:
        self.send_response_only(403)
        self.send_header("Date", format_datetime(datetime.now(UTC) - timedelta(seconds=self.late), usegmt=True))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def late_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


@pytest.mark.usefixtures("late_server")
@pytest.mark.parametrize(("late", "status"), [(0, "ok"), (20, "warning"), (3600, "error"), (-3600, "error")])
def test_a_storage_server_of_another_time_is_told(monkeypatch: pytest.MonkeyPatch, late: int, status: str) -> None:
    monkeypatch.setattr(Late, "late", late)
    assert abs(doctor_lake.server_skew(storage.server()) - late) < 3
    assert told(lake_path("s3://bucket/lake"), "clock")[0][0] == status


def test_an_encoder_that_was_damaged_or_lost_is_an_error(lake: TestLake) -> None:
    assert told(lake.root, "encoders")[0][0] == "ok"
    [sha256] = lake.read("encoders")["sha256"].to_list()
    file = session.encoder_file(lake.root, sha256)
    content = bytearray(file.read_bytes())
    content[content.index(b"tiny")] ^= 1  # the graph's name: still an ONNX file
    file.write_bytes(content)
    (status, message), *_ = told(lake.root, "encoders")
    assert (status, "another file" in message) == ("error", True)
    file.unlink()
    assert told(lake.root, "encoders")[0][0] == "error"


def test_damaged_weights_in_the_cache_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("HISTOLAKE_WEIGHTS", str(tmp_path))
    (tmp_path / inception_v3.WEIGHTS.name).write_bytes(b"no weights")
    [(status, message)] = told(tmp_path, "encoders")
    assert (status, "not the published weights" in message) == ("error", True)


def test_the_mlflow_store_and_the_champion_are_opened(own_lake: TestLake) -> None:
    assert told(own_lake.root, "mlflow")[0][0] == "ok"
    [row] = store.rows(own_lake.root, "model_files").to_dicts()
    store.put(own_lake.root, "model_files", [{**row, "content": b"another"}], "test")
    [(status, message)] = told(own_lake.root, "mlflow")
    assert (status, "not what was written" in message) == ("error", True)


def test_an_mlflow_store_that_is_no_database_is_an_error(own_lake: TestLake) -> None:
    (own_lake.root / "mlflow/mlflow.db").write_bytes(b"no database, but long enough to be looked at" * 100)
    assert told(own_lake.root, "mlflow")[0][0] == "error"


def test_pixels_that_differ_are_found() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert not doctor_pixels._differ(pixels, pixels)
    assert doctor_pixels._differ(pixels, pixels + 7)
    assert doctor_pixels._differ(pixels[:3], pixels)


def test_wrong_numbers_of_a_provider_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is another than the one whose result is expected: as if the provider computed it wrong."""
    with monkeypatch.context() as other:
        other.setattr(doctor_pixels, "WEIGHTS", (1.0, 2.0, 3.5))
        doctor_pixels._write_graph(tmp_path / "other.onnx")
    doctor_pixels._write_graph(tmp_path / "right.onnx")
    for provider in sessions.providers("fp32"):
        wrong = doctor_pixels._error_of(inspect(tmp_path / "other.onnx"), provider)
        right = doctor_pixels._error_of(inspect(tmp_path / "right.onnx"), provider)
        assert right < doctor_pixels.CLOSE < 0.1 < wrong
