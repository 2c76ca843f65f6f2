"""Real servers of object storage for tests, each a process of its own on a free port, and a cable that can be cut."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from support import ROOT

KEY, SECRET = "histolake-key", "the/secret+of+the+tests"
BUCKET = "bucket"
START_S = 60
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
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def requests(self) -> Counter[str]:
        """How many requests of each kind since this was asked last; of moto's server, which tells."""
        lines = re.findall(r'"(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP', self._log.read_text(errors="replace"))
        new, self._from = lines[self._from :], len(lines)
        return Counter("LIST" if "list-type=" in path else verb for verb, path in new)


@contextmanager
def serving(folder: Path, *command: str, key: str = KEY, secret: str = SECRET) -> Iterator[Store]:
    """Run a server until the block ends; `{port}` in the command becomes a free one."""
    port = _free_port()
    log = folder / f"{port}.log"
    with log.open("wb") as out:
        words = [word.format(port=port) for word in command]
        process = subprocess.Popen(words, stdout=out, stderr=out, cwd=folder)
        try:
            _await(process, port, log)
            store = Store(port, log, key, secret)
            if BUCKET not in [each["Name"] for each in store.client().list_buckets()["Buckets"]]:
                store.client().create_bucket(Bucket=BUCKET)
            yield store
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


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


class Cable:
    """A TCP proxy to a server; `cut` has it drop the connections over which bytes go that match.

    before: the server does not get the request either; else its answer is lost.
    """

    def __init__(self, store: Store) -> None:
        self._to, self._lock = store.port, threading.Lock()
        self._pattern, self._times, self._is_before = re.compile(b"$^"), 0, False
        self.hits = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, pattern: bytes, *, times: int = 10**9, before: bool = False) -> None:
        """Drop the next `times` connections that such bytes go over."""
        with self._lock:
            self._pattern, self._times, self._is_before, self.hits = re.compile(pattern), times, before, 0

    def mend(self) -> None:
        """Drop no more."""
        self.cut(b"$^", times=0)

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server, suppress(OSError):
            is_lost = threading.Event()
            up = threading.Thread(target=self._carry_up, args=(client, server, is_lost), daemon=True)
            up.start()
            while data := server.recv(65536):
                if is_lost.is_set():
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def _carry_up(self, client: socket.socket, server: socket.socket, is_lost: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._is_cut(data):
                    if self._is_before:
                        break
                    is_lost.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR if self._is_before else socket.SHUT_WR)

    def _is_cut(self, data: bytes) -> bool:
        with self._lock:
            if self._times <= 0 or not self._pattern.search(data):
                return False
            self._times -= 1
            self.hits += 1
            return True


def clean_environment() -> dict[str, str]:
    """This process's environment without what it tells of object storage."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
