"""Slides in S3-compatible object storage. Credentials and endpoint come from the environment or AWS's own files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any, TypeVar

from udfs.addresses import checked
from udfs.errors import FetchError, MissingError
from udfs.remote import BrokenError, ChangedError, RemoteFile, one_a_series

BLOCK = 2**23  # bytes asked for at a time
PATIENCE = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}  # seconds
SEVERAL_UNKNOWN = {".vms", ".vmu"}  # whose other files only the slide's own file names
_Value = TypeVar("_Value")


class _S3:
    """Objects and folders of buckets, by s3fs."""

    def files(self, address: str) -> list[RemoteFile]:
        """The slide's object, and for MRXS and DICOM those of its folder."""
        path = _path(address)
        name = PurePosixPath(path)
        if name.suffix.lower() in SEVERAL_UNKNOWN:
            raise FetchError(f"{address}: {name.suffix} slides are several files; copy them to this machine")
        own = _ask(address, lambda: _system().info(path))
        if own["type"] != "file":
            raise FetchError(f"{address}: not a slide but a folder; was the slide moved?")
        folder = {".mrxs": name.with_suffix(""), ".dcm": name.parent}.get(name.suffix.lower())
        beside = [] if folder is None else _listed(address, str(folder))
        if name.suffix.lower() == ".dcm":
            beside = [each for each in beside if each["name"] != path and each["name"].lower().endswith(".dcm")]
        return [_file(each, name.parent) for each in (own, *beside)]

    def open(self, file: RemoteFile, start: int) -> tuple[int, Iterator[bytes]]:
        """The object from `start` on, in ranges of one version."""
        return start, _blocks(file, start)

    def samples(self, file: RemoteFile, places: Sequence[int], size: int) -> list[bytes] | None:
        """All asked for at once."""
        if file.size == 0:
            return [b""] * len(places)
        ends, path = [min(place + size, file.size) for place in places], _path(file.address)
        found = _ask(file.address, lambda: _system().cat_ranges([path] * len(ends), list(places), ends))
        return [bytes(each) for each in found]

    def find(self, pattern: str, endings: set[str]) -> list[str]:
        """An object is taken at its word; folders and patterns are looked up."""
        path = _path(checked(pattern))
        name = PurePosixPath(path)
        is_pattern = bool(set(path) & set("*?["))
        if not is_pattern and name.suffix.lower() in endings and not pattern.endswith("/"):
            return [pattern]
        if is_pattern:
            found = _ask(pattern, lambda: _system().glob(path))
        else:
            found = [
                each["name"]
                for each in _ask(pattern, lambda: _system().find(path, detail=True)).values()
                if PurePosixPath(each["name"]).suffix.lower() in endings
            ]
        return [f"s3://{each}" for each in one_a_series([PurePosixPath(each) for each in sorted(found)])]


STORE = _S3()


def _path(address: str) -> str:
    return address.removeprefix("s3://").rstrip("/")


def _file(entry: dict[str, Any], folder: PurePosixPath) -> RemoteFile:
    version = str(entry.get("ETag") or entry.get("LastModified") or "")
    name = PurePosixPath(entry["name"]).relative_to(folder)
    if ".." in name.parts:  # it would lie outside the copy's folder
        raise FetchError(f"s3://{entry['name']}: no slide can have this name; rename it")
    return RemoteFile(f"s3://{entry['name']}", str(name), int(entry["size"]), version)


def _listed(address: str, folder: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = _ask(address, lambda: _system().ls(folder, detail=True))
    return sorted((each for each in entries if each["type"] == "file"), key=lambda each: str(each["name"]))


def _blocks(file: RemoteFile, start: int) -> Iterator[bytes]:
    def open_() -> Any:
        return _system().open(_path(file.address), "rb", block_size=BLOCK, cache_type="none")

    with _ask(file.address, open_) as served:  # its reads ask for the version that it found
        if str(served.details.get("ETag") or "") != file.version or served.size != file.size:
            raise _changed(file.address)
        served.seek(start)
        while block := _ask(file.address, lambda: served.read(BLOCK)):
            yield block


def _changed(address: str) -> ChangedError:
    return ChangedError(f"{address}: the object changed while it was read; is it still being written?")


@cache
def _system() -> Any:
    """The file system: anonymous where neither the environment nor AWS's files have credentials."""
    try:
        import s3fs
        from botocore.session import get_session
    except ImportError:
        raise FetchError("slides at s3:// need more packages: pip install --editable '.[s3]'") from None
    system = s3fs.S3FileSystem(
        anon=get_session().get_credentials() is None,
        use_listings_cache=False,
        skip_instance_cache=True,  # a cached one would not look at the environment
        config_kwargs=PATIENCE,
    )
    system.retries = 1  # udfs/download.py tries again
    return system


def _ask(address: str, question: Callable[[], _Value]) -> _Value:
    """The answer to a question of the file system, its errors in our words; none holds what the server sent."""
    system = _system()
    from botocore.exceptions import BotoCoreError
    from s3fs.utils import FileExpired

    try:
        return question()
    except FileExpired:
        raise _changed(address) from None
    except FileNotFoundError:
        raise MissingError(f"{address}: not there; was the slide moved?") from None
    except PermissionError as error:
        who = "without credentials" if system.anon else "with the credentials of the environment or AWS's files"
        raise FetchError(f"{address}: access is denied {who}{_skewed(error)}") from None
    except (BotoCoreError, OSError) as error:
        if re.search("SSL|certificate", str(error)):
            raise FetchError(
                f"{address}: no safe connection; set AWS_CA_BUNDLE for a certificate of your own"
            ) from None
        if "Precondition" in str(error) or "pre-condition" in str(error).lower():
            raise _changed(address) from None
        raise BrokenError(f"{address}: the object storage cannot be reached ({type(error).__name__})") from None


def _skewed(error: PermissionError) -> str:
    """A hint where the server finds fault with the time of the request."""
    return "; the clock of this machine is wrong" if "time" in str(error).lower() else ""
