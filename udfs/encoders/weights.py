"""Fetches published weights once: resumed where they broke off, verified, kept in the cache.

HISTOLAKE_WEIGHTS may name a folder that holds the file, or the address of a mirror's folder;
HISTOLAKE_CACHE the folder to keep it in.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from udfs.cache_folder import cache_dir
from udfs.errors import EncoderError

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 3.0  # one short attempt: who is offline should not wait
READ_SECONDS = 30.0
_BLOCK = 2**16  # bytes; a connection that breaks loses less than that
_REMEDY = "set HISTOLAKE_WEIGHTS to a folder that holds it, or to the address of a mirror"


@dataclass(frozen=True)
class WeightsFile:
    """A published file: its name, the folder's address that ends in a slash, bytes, MD5."""

    name: str
    url: str
    size: int
    md5: str


def local_path(weights: WeightsFile) -> Path | None:
    """The file where it is on this machine, unverified: in HISTOLAKE_WEIGHTS or in the cache."""
    named = os.environ.get("HISTOLAKE_WEIGHTS", "")
    folders = [cache_dir() / "weights"] if not named or _is_address(named) else [Path(named).expanduser()]
    return next((folder / weights.name for folder in folders if (folder / weights.name).is_file()), None)


def fetch(weights: WeightsFile) -> Path:
    """The verified file on this machine, downloaded if need be in one short attempt.

    Raises EncoderError, naming file and remedy, when it is out of reach or not what was published.
    """
    named = os.environ.get("HISTOLAKE_WEIGHTS", "")
    found = local_path(weights)
    if found is None and named and not _is_address(named):
        raise EncoderError(f"{weights.name}: not in the folder {named} that HISTOLAKE_WEIGHTS names; copy it there")
    if found is None:
        return _download(weights, named.rstrip("/") + "/" if named else weights.url)
    if _md5(found) != weights.md5:
        raise EncoderError(f"{found}: not the published weights (their MD5 is {weights.md5}); copy it again")
    return found


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Let one process at a time write beside `path`, a file made for this; a process that dies frees it.

    Raises EncoderError naming the folder when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            _lock(file)
            yield
    except OSError as error:
        remedy = "set HISTOLAKE_CACHE to a folder that can be written and has room"
        raise EncoderError(f"{path.parent}: {error.strerror or error}; {remedy}") from error


if sys.platform == "win32":

    def _lock(file: IO[bytes]) -> None:
        import msvcrt

        file.seek(0)
        while True:
            with suppress(OSError):  # it gives up after ten seconds, and another's download may take longer
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

else:

    def _lock(file: IO[bytes]) -> None:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(weights: WeightsFile, folder: str) -> Path:
    target = cache_dir() / "weights" / weights.name
    part = target.with_name(f"{target.name}.part")
    with exclusive(target.with_name(f"{target.name}.lock")):
        if not target.is_file():  # another process may have fetched it while this one waited
            if not part.is_file() or part.stat().st_size < weights.size:
                _receive(weights, folder + weights.name, part)
            _verify(weights, folder, part)
            part.replace(target)
    return target


def _verify(weights: WeightsFile, folder: str, part: Path) -> None:
    size = part.stat().st_size
    if size < weights.size:
        raise EncoderError(
            f"{weights.name}: {size:,} of {weights.size:,} bytes came from {folder}; run again to resume"
        )
    if _md5(part) != weights.md5:
        part.unlink()
        raise EncoderError(f"{weights.name}: what {folder} sent is not the published file (MD5); {_REMEDY}")


def _receive(weights: WeightsFile, address: str, part: Path) -> None:
    """Append what is missing to `part`; a server that knows no ranges sends all of it again."""
    import requests

    held = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
    try:
        response = requests.get(address, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.RequestException as error:
        raise EncoderError(f"{address}: out of reach; {_REMEDY}") from error
    with response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink(missing_ok=True)  # longer than what is served: not a beginning of it
        if not response.ok:
            raise EncoderError(f"{address}: the server answers {response.status_code} {response.reason}; {_REMEDY}")
        is_rest = response.status_code == requests.codes.partial_content
        broken = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
        with part.open("ab" if is_rest else "wb") as file, suppress(*broken):  # what came is kept to resume
            _store(response, file, weights)


def _store(response: requests.Response, file: IO[bytes], weights: WeightsFile) -> None:
    """Write what comes to `file`, with a progress bar where somebody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(weights.name, total=weights.size, completed=file.tell())
        for block in response.iter_content(_BLOCK):
            file.write(block)
            progress.advance(task, len(block))
            if file.tell() > weights.size:
                return  # not the file: no need for the rest of it
