"""Pseudonyms: what a lake holds in the place of names and paths, and the key file, kept apart, that knows them.

A pseudonym is a keyed hash (HMAC-SHA256) of what it stands for: the same slide gets the same one again, and nobody
without the key can tell whose it is, or try names until one fits. The key file is a SQLite database: the key, and every
pseudonym with what it stands for. Rows are only ever added.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from udfs.addresses import KEY_VARIABLE, PSEUDONYM, is_pseudonym
from udfs.errors import KeyFileError, SlideError
from udfs.registry import Column, udf

KEY_BYTES = 32
LETTERS = 16  # of a pseudonym: 80 bits
KEPT = 100_000  # paths that are remembered
BUSY_SECONDS = 60.0  # to wait for another process that writes to the key file

_TABLES = (
    "create table if not exists key (secret blob not null)",
    "create table if not exists pseudonyms (pseudonym text primary key, kind text not null, name text not null)",
)


@dataclass(frozen=True)
class KeyFile:
    """A key, and the file that it is in.

    key_id: tells keys apart and nothing of them; it stands in the lake's settings and in every path.
    """

    file: Path
    secret: bytes
    key_id: str

    def pseudonym(self, kind: str, name: str) -> str:
        """What stands for a name of that kind: 'slide', 'patient', 'file', 'path', 'shape' or 'group'."""
        digest = hmac.digest(self.secret, f"{kind}\0{name}".encode(errors="surrogateescape"), "sha256")
        return f"{kind}-{base64.b32encode(digest).decode().lower()[:LETTERS]}"

    def path(self, path: str) -> str:
        """What stands for a path or address."""
        return f"{PSEUDONYM}{self.key_id}/{self.pseudonym('path', path)}"

    def record(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Keep pseudonyms, each with its kind and what it stands for; those that are known stay as they are."""
        with _connected(self.file) as con, con:
            con.execute("begin immediate")  # all or none, also when this process is killed
            con.executemany("insert or ignore into pseudonyms values (?, ?, ?)", rows)

    def names(self, pseudonyms: Iterable[str]) -> dict[str, str]:
        """What each pseudonym that is known stands for."""
        with _connected(self.file) as con:
            ask = "select name from pseudonyms where pseudonym = ?"
            found = {each: con.execute(ask, (each,)).fetchone() for each in dict.fromkeys(pseudonyms)}
        return {each: row[0] for each, row in found.items() if row is not None}


def true_path(path: str) -> str:
    """The path or address that is meant: `path` itself, unless it is a pseudonym.

    Raises KeyFileError when the key file that HISTOLAKE_KEY names is not the one that is needed, and SlideError when
    that knows no such path.
    """
    return _known(key_of(path), path) if is_pseudonym(path) else path


def key_of(path: str) -> KeyFile:
    """The key file that knows a pseudonym of a path. Raises KeyFileError when it is not at hand."""
    named = os.environ.get(KEY_VARIABLE)
    if not named:
        raise KeyFileError(
            f"{path}: a pseudonym, and no key file is at hand; set {KEY_VARIABLE} to the one that `histolake ingest` "
            "was given: pixels cannot be read without it, all else can"
        )
    key = opened(Path(named))
    if key.key_id != path.removeprefix(PSEUDONYM).partition("/")[0]:
        raise KeyFileError(
            f"{path}: the key file {named} is another lake's; set {KEY_VARIABLE} to the one of this lake"
        )
    return key


@lru_cache(KEPT)
def _known(key: KeyFile, path: str) -> str:
    found = key.names([path])
    if path not in found:
        raise SlideError(f"{path}: the key file {key.file} does not know it; ingest the slide again")
    return found[path]


@contextmanager
def using(file: Path | None) -> Iterator[None]:
    """Have this process, and those that it starts, take that key file."""
    before = os.environ.get(KEY_VARIABLE)
    if file is not None:
        os.environ[KEY_VARIABLE] = str(file)
    try:
        yield
    finally:
        if file is not None:
            os.environ.pop(KEY_VARIABLE)
            if before is not None:
                os.environ[KEY_VARIABLE] = before


def make(file: Path) -> KeyFile:
    """The key file at that place, made where there is none. Two that make it at once get one key.

    Raises KeyFileError when it cannot be made, is something else, or may be read by others.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise KeyFileError(f"{file}: the key file cannot be made: {error.strerror}; name another") from None
    _refuse_open(file)
    with _connected(file) as con:
        con.execute("begin immediate")
        for statement in _TABLES:
            con.execute(statement)
        con.execute("insert into key select ? where not exists (select 1 from key)", (secrets.token_bytes(KEY_BYTES),))
        con.execute("commit")
    return opened(file)


def opened(file: Path) -> KeyFile:
    """The key file at that place. Raises KeyFileError when there is none, or it may be read by others."""
    state = _refuse_open(file)
    return _read(file, state.st_ino, state.st_mtime_ns)


def _refuse_open(file: Path) -> os.stat_result:
    if not file.is_absolute():
        raise KeyFileError(f"{KEY_VARIABLE}={file}: give the key file's whole path, from / on")
    try:
        state = file.stat()
    except OSError as error:
        raise KeyFileError(
            f"{file}: the key file cannot be read: {error.strerror}; restore it, or mend {KEY_VARIABLE}"
        ) from None
    if os.name == "posix" and stat.S_IMODE(state.st_mode) & 0o077:
        raise KeyFileError(f"{file}: others may read the key file, which tells who is who; `chmod 600 '{file}'`")
    return state


@lru_cache(8)
def _read(file: Path, inode: int, changed: int) -> KeyFile:
    with _connected(file) as con:
        rows = con.execute("select secret from key").fetchall()
    if len(rows) != 1:
        raise KeyFileError(f"{file}: no key file of histolake's; name another")
    return KeyFile(file, rows[0][0], hashlib.sha256(b"histolake key id\0" + rows[0][0]).hexdigest()[:12])


@contextmanager
def _connected(file: Path) -> Iterator[sqlite3.Connection]:
    """The file's database, for writing where that may be, or what a killed writer left could not be undone."""
    address = f"file:{quote(os.fsencode(file))}?mode=rw"
    try:
        with closing(sqlite3.connect(address, BUSY_SECONDS, isolation_level=None, uri=True)) as con:
            yield con
    except sqlite3.Error as error:
        raise KeyFileError(f"{file}: the key file cannot be read or written ({error}); is it histolake's?") from None


@udf("VARCHAR", "VARCHAR", "VARCHAR", returns="VARCHAR")
def veiled(path: Column, kind: Column, name: Column) -> pa.Array:
    """A pseudonym for each name that comes out of a file whose path is one; other names as they are.

    kind: what is named, 'shape' or 'group'. NULL in, NULL out. Raises KeyFileError when the key file is missing.
    """
    rows = zip(path.to_pylist(), kind.to_pylist(), name.to_pylist(), strict=True)
    return pa.array([None if None in row else _veiled(*row) for row in rows], pa.string())


def _veiled(path: str, kind: str, name: str) -> str:
    return key_of(path).pseudonym(kind, name) if is_pseudonym(path) else name
