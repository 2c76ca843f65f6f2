"""A lake in object storage, on real servers over a socket."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import object_stores
import polars as pl
import pytest
from audit_writers import write
from object_stores import BUCKET, KEY, SECRET, Cable, Store, clean_environment
from polars.testing import assert_frame_equal
from support import Answer, TestLake, all_end, run_command

from lake import creation, doctor, doctor_lake, encoders, mlflow_runs, models, session, storage, store, workbench
from lake.audit_reading import verify
from lake.choices import lake_path
from lake.compute import raise_if_general
from lake.doctor_notes import Status
from lake.tables import TABLES
from udfs.encoders.encoder import describe
from udfs.errors import AuditError, LakeError, QueryError, StorageError

WHEN_AND_WHERE = {  # columns that differ from run to run: ids, times, and in how many commits units went
    *("run_id", "seconds", "finished_at", "parameters", "table_version", "input_versions", "table_versions"),
    *("uri", "artifact", "mlflow_run_id", "trained_at", "measured_at"),
}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with object_stores.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="module")
def localbucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with object_stores.localbucket(tmp_path_factory.mktemp("localbucket")) as server:
        yield server


@pytest.fixture(scope="module")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with object_stores.s3rver(tmp_path_factory.mktemp("s3rver")) as server:
        yield server


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that tells of no store, and has caches of its own."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return monkeypatch


def tell(told: pytest.MonkeyPatch, server: Store, **other: str) -> None:
    for name, value in (server.environment() | other).items():
        told.setenv(name, value)


def new_lake(address: str, tiny_onnx: Path) -> TestLake:
    root = lake_path(address)
    creation.create(root)
    spec = describe("tiny", tiny_onnx, preprocessing={"scale": 1 / 255}, precision="fp32", source="a test")
    encoders.add(root, spec, tiny_onnx, "test")
    return TestLake(root)


def one_row(root: Path, name: str, value: str) -> None:
    store.put(root, "settings", [{"name": name, "value": value}], "test")


def settings(root: Path) -> dict[str, str]:
    rows = store.rows(root, "settings").rows()
    assert len(dict(rows)) == len(rows), "a row is there twice"
    return dict(rows)


def told_in_a_line(answer: Answer, *words: str) -> None:
    """The command failed, and its last word to the person is one line that has these words and no secret."""
    assert answer.status == 1, answer
    [line] = answer.err.strip().splitlines()
    assert line.startswith("histolake: ")
    for word in words:
        assert word in line
    assert SECRET not in answer.err


@contextmanager
def refusing(status: int, code: str) -> Iterator[str]:
    """A store that answers every request with an error of S3's; its address."""

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


# -- what works


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_workflow_makes_the_same_tables_in_a_bucket(
    moto: Store,
    told: pytest.MonkeyPatch,
    full_lake: TestLake,
    slides: Path,
    tiny_onnx: Path,
    tmp_path: Path,
) -> None:
    tell(told, moto)
    lake = new_lake("s3://bucket/a/whole", tiny_onnx)
    manifest = str(slides / "manifest.csv")
    said = [
        lake.ok("ingest", str(slides), "--annotations", str(slides), "--manifest", manifest),
        lake.ok("run", *lake.tiling),
        lake.ok("train", "--encoder", "tiny"),
        lake.ok("predict"),
        lake.ok("evaluate"),
    ]
    for name in TABLES:
        left_out = WHEN_AND_WHERE | ({"content", "sha256"} if name == "model_files" else set())  # with times in them
        here, there = (each.read(name).drop(left_out, strict=False) for each in (full_lake, lake))
        assert_frame_equal(there, here, check_row_order=False)

    said += [
        lake.ok("run", *lake.tiling),
        lake.ok("check"),
        lake.ok("sql", "select count(*) from current_predictions", "--format", "json"),
        lake.ok("history", "features"),
        lake.ok("models", "list"),
        lake.ok("groups", "list"),
        lake.ok("encoders", "list"),
        lake.ok("show", "tumor_1", "--out", str(tmp_path / "patches.png")),
        lake.ok("heatmap", "tumor_4", "--out", str(tmp_path / "heatmap.png")),
        lake.ok("export", "scores", "--out", str(tmp_path / "scores.csv")),
        lake.ok("reproduce", "champion"),
        lake.ok("maintain", "--dry-run"),
        lake.ok("maintain"),
        lake.ok("optimize"),
        lake.ok("vacuum", "--keep-hours", "0"),
        lake.ok("check"),
    ]
    assert full_lake.ok("sql", "select count(*) from current_predictions", "--format", "json").out == said[7].out
    kept = b"".join(moto.contents("a/whole").values())
    database = b"".join(file.read_bytes() for file in (tmp_path / "XDG_DATA_HOME").rglob("*") if file.is_file())
    assert database
    printed = "".join(each.out + each.err for each in said).encode()
    for place in (kept, database, printed):
        assert SECRET.encode() not in place
        assert KEY.encode() not in place


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_models_are_logged_on_a_server_and_reach_the_lake(
    moto: Store, told: pytest.MonkeyPatch, full_lake: TestLake, tmp_path: Path
) -> None:
    tell(told, moto)
    moto.put(full_lake.root, "served/lake")
    lake = TestLake(lake_path("s3://bucket/served/lake"))
    with object_stores.mlflow_server(tmp_path) as url:
        told.setenv("MLFLOW_TRACKING_URI", url)
        trained = lake.ok("train", "--encoder", "tiny", "--calibration", "temperature", "--json").json()
        assert lake.ok("predict").status == 0
        [row] = [row for row in models.rows(lake.root) if row["model_id"] == trained["model_id"]]
        [run] = [run for run in mlflow_runs.runs(lake.root) if run.run_id == row["mlflow_run_id"]]
        assert run.version == row["uri"].rpartition("/")[2] == "1"
        assert models.find(lake.root, row["uri"].rpartition("/")[0] + "@champion") == row
        assert lake.ok("reproduce", "champion", "--json").json()["metrics"]
        assert os.environ["MLFLOW_TRACKING_URI"] == url
    told_in_a_line(lake("reproduce", "champion"), url, "MLFLOW_TRACKING_URI")
    assert lake.ok("sql", "select count(*) from current_predictions").status == 0  # the model itself is in the lake


@pytest.fixture(params=["moto", "localbucket"])
def lake(request: pytest.FixtureRequest, told: pytest.MonkeyPatch, tiny_onnx: Path) -> TestLake:
    """An empty lake on each of the good stores."""
    tell(told, request.getfixturevalue(request.param))
    return new_lake(f"s3://bucket/{uuid.uuid4().hex}/lake", tiny_onnx)


def test_a_lake_is_made_read_and_written(lake: TestLake, tmp_path: Path) -> None:
    one_row(lake.root, "choice", "O'Brien")
    with session.connect(lake.root) as con:
        assert con.execute("select value from settings where name = 'choice'").fetchall() == [("O'Brien",)]
        before = session.versions(con)
    one_row(lake.root, "choice", "another")
    with session.connect(lake.root, at=before) as con:
        assert con.execute("select value from settings where name = 'choice'").fetchall() == [("O'Brien",)]
    assert settings(lake.root)["choice"] == "another"
    assert store.newest_commit(lake.root, "settings")[0] == f"{before['settings'] + 1:020}.json"
    assert lake.ok("optimize", "settings").status == 0
    [sha256] = store.rows(lake.root, "encoders")["sha256"].to_list()
    assert hashlib.sha256(session.encoder_file(lake.root, sha256).read_bytes()).hexdigest() == sha256
    assert session.encoder_file(lake.root, sha256).is_relative_to(tmp_path / "XDG_CACHE_HOME")


@pytest.mark.slow
def test_writers_at_once_lose_nothing(lake: TestLake) -> None:
    names = [f"choice {number}" for number in range(12)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: one_row(lake.root, name, name), names))
    assert settings(lake.root).items() >= dict(zip(names, names, strict=True)).items()
    recorded = store.rows(lake.root, "runs").filter(pl.col("stage") == "settings")["identity"].to_list()
    assert {json.loads(each)["name"] for each in recorded} >= set(names)


@pytest.mark.slow
def test_a_view_of_the_lake_s_own_is_read(moto: Store, told: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    tell(told, moto)
    lake = new_lake("s3://bucket/own/lake", tiny_onnx)
    view = b"-- twice: every setting twice.\n\nselect name from settings union all select name from settings"
    moto.client.put_object(Bucket=BUCKET, Key="own/lake/sql/views/twice.sql", Body=view)
    answer = lake.ok("sql", "select count(*) as n from twice", "--format", "json")
    assert answer.json() == [{"n": 2 * len(settings(lake.root))}]


@pytest.mark.slow
def test_opening_asks_for_no_file_s_size(moto: Store, told: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    tell(told, moto)
    lake = new_lake("s3://bucket/few/lake", tiny_onnx)
    for number in range(5):
        one_row(lake.root, str(number), "value")
    moto.requests()
    session.connect(lake.root).close()
    asked = moto.requests()
    assert asked["HEAD"] == asked["PUT"] == 0
    assert asked["LIST"] <= 2 * len(TABLES) + 4


@pytest.mark.slow
def test_a_profile_of_the_standard_files_is_enough(
    moto: Store, told: pytest.MonkeyPatch, tiny_onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    keys = f"[clinic]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    (tmp_path / ".aws" / "credentials").write_text(keys)
    (tmp_path / ".aws" / "config").write_text(f"[profile clinic]\nregion = eu-west-1\nendpoint_url = {moto.url}\n")
    told.setenv("AWS_PROFILE", "clinic")
    lake = new_lake("s3://bucket/profile/lake", tiny_onnx)
    assert lake.ok("encoders", "list", "--json").json()[0]["name"] == "tiny"
    assert storage.options(lake.root)["AWS_REGION"] == "eu-west-1"


@pytest.mark.slow
def test_a_person_s_statement_reads_the_lake_and_no_other_object(
    moto: Store, told: pytest.MonkeyPatch, tiny_onnx: Path
) -> None:
    tell(told, moto)
    lake = new_lake("s3://bucket/sealed/lake", tiny_onnx)
    moto.client.put_object(Bucket=BUCKET, Key="sealed/other.parquet", Body=b"PAR1")
    [(count,)] = workbench.start(lake.root, "select count(*) from settings").result().frame.rows()
    assert count == len(settings(lake.root))
    for statement in (
        "from 's3://bucket/sealed/other.parquet'",
        "from parquet_scan('s3://bucket/sealed/other.parquet')",
    ):
        with pytest.raises(QueryError):
            workbench.start(lake.root, statement).result()
    process = workbench._spawn(lake.root)
    try:
        assert SECRET.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_addresses_are_told_from_folders(told: pytest.MonkeyPatch) -> None:
    assert str(lake_path("s3://bucket/a/b/")) == "s3://bucket/a/b"
    assert lake_path("s3://bucket/a") == lake_path("s3://bucket/a/") != lake_path("s3://bucket/b")
    assert str(lake_path(lake_path("s3://bucket")) / "runs") == "s3://bucket/runs"
    told.setenv("HISTOLAKE_LAKE", "s3://bucket/c")
    assert storage.is_remote(lake_path())
    with pytest.raises(LakeError, match="names no bucket"):
        lake_path("s3:///a")


# -- what does not


def test_a_store_that_ignores_conditions_is_refused(s3rver: Store, told: pytest.MonkeyPatch) -> None:
    tell(told, s3rver)
    with pytest.raises(StorageError, match="ignores If-None-Match") as refusal:
        creation.create(lake_path("s3://bucket/lake"))
    assert s3rver.url in str(refusal.value)
    assert s3rver.contents() == {}


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (403, "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "check AWS_ACCESS_KEY_ID"),
        (403, "AccessDenied", "what they may do with this bucket"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "sign in again"),
        (404, "NoSuchBucket", "no such bucket"),
        (301, "PermanentRedirect", "AWS_REGION"),
    ],
)
def test_what_the_store_refuses_is_told_in_a_line(
    status: int, code: str, remedy: str, told: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with refusing(status, code) as url:
        told.setenv("AWS_ENDPOINT_URL", url)
        told.setenv("AWS_ACCESS_KEY_ID", KEY)
        told.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        told_in_a_line(run_command("check", "--lake", "s3://bucket/lake"), "s3://bucket/lake", remedy)
        with pytest.raises(LakeError, match=re.escape(remedy)):
            store.open_table(lake_path("s3://bucket/lake"), "runs")
        with pytest.raises(LakeError, match=re.escape(remedy)):
            one_row(lake_path("s3://bucket/lake"), "a", "b")


def test_a_bucket_that_is_not_there_is_told(moto: Store, told: pytest.MonkeyPatch) -> None:
    tell(told, moto)
    told_in_a_line(run_command("check", "--lake", "s3://buckett/lake"), "s3://buckett/lake", "no such bucket")


def test_a_prefix_without_a_lake_is_told(moto: Store, told: pytest.MonkeyPatch) -> None:
    tell(told, moto)
    told_in_a_line(run_command("check", "--lake", "s3://bucket/nothing"), "s3://bucket/nothing", "no lake here")
    moto.client.put_object(Bucket=BUCKET, Key="occupied/thesis.txt", Body=b"words")
    with pytest.raises(LakeError, match="holds other things"):
        creation.create(lake_path("s3://bucket/occupied"))


def test_a_store_that_cannot_be_reached_is_told_before_long(told: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    told.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    told.setenv("AWS_ACCESS_KEY_ID", KEY)
    told.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    told_in_a_line(run_command("check", "--lake", "s3://bucket/lake"), "s3://bucket/lake", "cannot be reached")


def test_missing_credentials_are_told(moto: Store, told: pytest.MonkeyPatch) -> None:
    told.setenv("AWS_ENDPOINT_URL", moto.url)
    told_in_a_line(run_command("check", "--lake", "s3://bucket/lake"), "no credentials", "AWS_PROFILE")
    told.setenv("AWS_PROFILE", "nobody")
    told_in_a_line(run_command("check", "--lake", "s3://bucket/lake"), "nobody")


def test_without_the_extra_it_is_told_what_to_install(told: pytest.MonkeyPatch) -> None:
    told.setitem(sys.modules, "s3fs", None)
    told_in_a_line(run_command("check", "--lake", "s3://bucket/lake"), "pip install --editable '.[s3]'")


def test_what_the_store_does_is_no_slide_s_fault() -> None:
    """As DuckDB hands it on: a unit would be recorded as failed, and not be done again."""
    with pytest.raises(StorageError, match=r"^s3://bucket/a: the connection broke$"):
        raise_if_general(duckdb.IOException("IO Error: StorageError: s3://bucket/a: the connection broke\n\nAt:\n  x"))
    raise_if_general(duckdb.IOException("IO Error: the slide cannot be read"))


@pytest.fixture
def cable(moto: Store, told: pytest.MonkeyPatch) -> Iterator[Cable]:
    """What lies between histolake and the store."""
    cable = Cable(moto)
    tell(told, moto, AWS_ENDPOINT_URL=cable.url)
    yield cable
    cable.close()


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_a_network_that_breaks_in_a_commit_costs_and_doubles_nothing(
    before: bool, cable: Cable, told: pytest.MonkeyPatch, tiny_onnx: Path
) -> None:
    lake = new_lake(f"s3://bucket/cut-{before}/lake", tiny_onnx)
    told.setattr(storage, "ATTEMPTS", 3)
    commit = r"PUT /bucket/\S+/settings/_delta_log/\d+\.json"
    cable.cut(commit, times=1, before=before)
    one_row(lake.root, "once", "1")
    assert cable.mend() == 1
    assert settings(lake.root)["once"] == "1"

    cable.cut(commit, before=before)
    with pytest.raises(LakeError, match="the connection broke"):
        one_row(lake.root, "later", "1")
    cable.mend()
    assert ("later" in settings(lake.root)) is not before  # committed, and the answer was lost
    session.connect(lake.root, read_only=False).close()
    with session.connect(lake.root) as con:
        found = con.execute("select count(*) from settings where name = 'later'").fetchall()
    assert found == [(0 if before else 1,)]  # the ledger was mended: the snapshot has what was committed
    one_row(lake.root, "later", "1")
    assert settings(lake.root)["later"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_a_network_that_breaks_while_a_deed_is_recorded_breaks_no_chain(
    before: bool, cable: Cable, told: pytest.MonkeyPatch, tiny_onnx: Path
) -> None:
    root = new_lake(f"s3://bucket/deed-{before}/lake", tiny_onnx).root
    told.setattr(storage, "ATTEMPTS", 3)
    commit = r"PUT /bucket/\S+/audit/_delta_log/\d+\.json"
    cable.cut(commit, times=1, before=before)
    write(root, "once", 2)
    assert cable.mend() == 1
    cable.cut(commit, before=before)
    with pytest.raises(AuditError, match=r"the connection broke.* It was not done"):
        write(root, "never", 1)
    cable.mend()
    write(root, "later", 1)
    people = store.rows(root, "audit").sort("sequence")["name"].to_list()
    assert people == ["once", "once", *(["later"] if before else ["never", "later"])]
    assert verify(root).problems == []


@pytest.mark.slow
def test_writers_at_once_add_to_one_chain(lake: TestLake) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write, args=(lake.root, name, 10)) for name in ("one", "other")]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: write(lake.root, f"thread {number}", 5), range(4)))
    all_end(processes)
    assert lake.ok("optimize", "audit").status == 0
    write(lake.root, "afterwards", 1)
    assert store.rows(lake.root, "audit").group_by("name").len().sort("name").rows() == [
        ("afterwards", 1),
        ("one", 10),
        ("other", 10),
        *((f"thread {number}", 5) for number in range(4)),
    ]
    assert lake.ok("audit", "verify").err.startswith("41 rows")


def test_without_the_bucket_nothing_is_done(moto: Store, told: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    tell(told, moto)
    lake = new_lake("s3://bucket/gone/lake", tiny_onnx)
    with refusing(404, "NoSuchBucket") as url:
        told.setenv("AWS_ENDPOINT_URL", url)
        for root in (lake.root, lake_path(str(lake.root))):  # opened before, and after
            with pytest.raises(AuditError, match=r"no such bucket.* It was not done"):
                write(root, "ada", 1)


@pytest.mark.slow
def test_a_network_that_breaks_while_files_are_read_is_told(
    cable: Cable, told: pytest.MonkeyPatch, tiny_onnx: Path
) -> None:
    lake = new_lake("s3://bucket/cut-reading/lake", tiny_onnx)
    told.setattr(storage, "ATTEMPTS", 3)
    cable.cut(r"GET /bucket/\S+\.parquet")
    told_in_a_line(lake("sql", "from settings"), "s3://bucket/cut-reading/lake/", "the connection broke")
    cable.mend()
    assert lake.ok("sql", "from settings", "--format", "json").json()


@pytest.mark.slow
def test_a_store_that_goes_while_a_model_is_trained_leaves_the_lake_as_it_was(
    cable: Cable, moto: Store, told: pytest.MonkeyPatch, full_lake: TestLake
) -> None:
    moto.put(full_lake.root, "cut-running/lake")
    lake = TestLake(lake_path("s3://bucket/cut-running/lake"))
    before = lake.read("runs")
    told.setattr(storage, "ATTEMPTS", 3)
    cable.cut(r"GET /bucket/\S+/features/bucket\S+\.parquet")
    trained = lake("train", "--encoder", "tiny", "--calibration", "temperature")
    told_in_a_line(trained, "features", "the connection broke")
    cable.mend()
    assert lake.read("runs").height == before.height
    assert lake.ok("check").status == 0


# -- what `histolake doctor` says of it


def test_a_lake_in_a_bucket_that_is_well_is_ok_and_nothing_is_left_there(moto: Store, told: pytest.MonkeyPatch) -> None:
    tell(told, moto)
    root = lake_path("s3://bucket/well/lake")
    creation.create(root)
    before = set(moto.contents("well"))
    of_the_lake = ("lake", "writing", "creating once", "clock", "ledger", "encoders", "mlflow")
    found = list(doctor.examine(root, {name: doctor.CHECKS[name] for name in of_the_lake}))
    assert {str(each.status) for each in found} == {"ok"}, found
    assert set(moto.contents("well")) == before


def test_what_a_bucket_refuses_is_told_with_what_to_do(moto: Store, told: pytest.MonkeyPatch) -> None:
    tell(told, moto)
    for each in doctor.examine(lake_path("s3://no-such-bucket/lake"), {"writing": doctor_lake.writing}):
        assert (each.status, "no such bucket" in each.remedy) == (Status.error, True)


def test_a_store_that_ignores_conditions_is_an_error_to_doctor(s3rver: Store, told: pytest.MonkeyPatch) -> None:
    tell(told, s3rver)
    once = {"creating once": doctor.CHECKS["creating once"]}
    [found] = doctor.examine(lake_path("s3://bucket/lake"), once)
    assert (found.status, "ignores If-None-Match" in found.message) == (Status.error, True)
