"""Real servers of object storage for tests, each a process of its own on a free port, and a cable that can be cut."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from support import ROOT, free_port, until

KEY, SECRET = "histolake-key", "the/secret+of+the+tests"
BUCKET = "bucket"
START_S = 200
S3RVER = ROOT / ".venv" / ".s3rver"  # `make test` has npm put it there


class Store:
    """A server: its address, and what it was asked."""

    def __init__(self, port: int, log: Path, key: str, secret: str) -> None:
        self.url, self.port, self._log = f"http://127.0.0.1:{port}", port, log
        self.key, self.secret = key, secret
        self._from = 0

    def environment(self) -> dict[str, str]:
        """What tells histolake of the server."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    @cached_property
    def client(self) -> boto3.client:
        """Boto3 on the server."""
        config = Config(retries={"total_max_attempts": 2}, s3={"addressing_style": "path"})
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=config,
        )

    def contents(self, prefix: str = "") -> dict[str, bytes]:
        """All objects of the bucket, by key."""
        client = self.client
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def put(self, folder: Path, prefix: str) -> None:
        """Copy a folder into the bucket."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                key = f"{prefix}/{file.relative_to(folder).as_posix()}"
                self.client.upload_file(str(file), BUCKET, key)

    def requests(self) -> Counter[str]:
        """How many requests of each kind since this was asked last; of moto's server, which tells."""
        lines = re.findall(r'"(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP', self._log.read_text(errors="replace"))
        new, self._from = lines[self._from :], len(lines)
        return Counter("LIST" if "list-type=" in path else verb for verb, path in new)


@contextmanager
def serving(folder: Path, *command: str, key: str = KEY, secret: str = SECRET) -> Iterator[Store]:
    """Run a server until the block ends; `{port}` in the command becomes a free one."""
    port = free_port()
    log = folder / f"{port}.log"
    with log.open("wb") as out:
        words = [word.format(port=port) for word in command]
        process = subprocess.Popen(words, stdout=out, stderr=out, cwd=folder)
        try:
            _await(process, port, log)
            store = Store(port, log, key, secret)
            if BUCKET not in [each["Name"] for each in store.client.list_buckets()["Buckets"]]:
                store.client.create_bucket(Bucket=BUCKET)
            yield store
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait(30)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    def is_up() -> bool:
        assert process.poll() is None, "it ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
        return False

    try:
        until(is_up, "it answers", START_S)
    except AssertionError as error:
        pytest.fail(f"the server did not start, {error}: {log.read_text(errors='replace')[-2000:]}")


def moto(folder: Path) -> Iterator[Store]:
    """moto's server, which honours conditional writes."""
    return serving(folder, sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}")


def localbucket(folder: Path) -> Iterator[Store]:
    """localbucket, which does, too, and keeps objects as files."""
    (folder / "data").mkdir()
    return serving(folder, sys.executable, "-m", "localbucket", "data", "--port", "{port}")


def s3rver(folder: Path) -> Iterator[Store]:
    """npm's s3rver, which ignores them; the test skips where it is not installed."""
    program = S3RVER / "node_modules" / ".bin" / "s3rver"
    if not program.exists() or not shutil.which("node"):
        pytest.skip("s3rver is not here: it takes node and npm; `make test` installs it then")
    where = ("-d", str(folder / "s3rver"), "-a", "127.0.0.1", "-p", "{port}")
    return serving(folder, str(program), *where, "--configure-bucket", BUCKET, key="S3RVER", secret="S3RVER")


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server that keeps its runs in SQLite and hands files on; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    where = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    log = folder / "mlflow.log"
    scripts = sysconfig.get_path("scripts")  # where uvicorn is
    environment = clean_environment() | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *where], stdout=out, stderr=out, env=environment, cwd=folder, start_new_session=True
        )
        try:
            _await(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


class Cable:
    """What lies between histolake and a server, tests/cable.py; `cut` has it drop connections.

    A process of its own: some calls of deltalake hold Python's lock while they wait for the network.
    """

    def __init__(self, store: Store) -> None:
        words = [sys.executable, str(ROOT / "tests" / "cable.py"), str(store.port)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self._answer()}"

    def cut(self, pattern: str, *, times: int = 10**9, before: bool = False) -> None:
        """Drop the next `times` connections over which bytes go that match.

        before: the server does not get them either; else only its answer is lost.
        """
        self._ask({"pattern": pattern, "times": times, "before": before})

    def mend(self) -> int:
        """Drop no more; how many were since the cut."""
        return self._ask({"pattern": "$^", "times": 0, "before": False})

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate(timeout=30)

    def _ask(self, order: dict[str, object]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def clean_environment() -> dict[str, str]:
    """This process's environment without what it tells of object storage."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
