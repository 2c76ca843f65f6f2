"""What a lake is kept in: this machine's disk, or a bucket of object storage; only this module tells them apart.

A lake in object storage has an address like s3://bucket/prefix. Tables are read and written by deltalake, with the
settings of `options`; other files by s3fs. Who we are is told by the environment or the standard files of AWS alone:
nothing of it is kept.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlparse

from lake.storage_faults import reason
from udfs.cache_folder import cache_dir
from udfs.errors import StorageError

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable

S3 = "s3://"
CONNECT_S, READ_S = 5, 30  # that one request may take
ATTEMPTS, ATTEMPTS_S = 10, 30  # for one request, and how long all of them may take together
FRESH_S = 1.0  # for which the newest commit is taken as such without asking again
PRECONDITION_FAILED = 412  # HTTP status
CHECKPOINT_COMMITS = "20"
LOG = "_delta_log"
UNFINISHED = re.compile(r"#\d+$")  # so names end of files that deltalake is writing in a folder

_newest: dict[str, tuple[float, str, int]] = {}  # of a log: when it was asked, name and time of its newest commit
_asking = threading.Lock()
_proven: set[tuple[str, str]] = set()  # stores and buckets that refused what they should
_proving = threading.Lock()


def is_remote(root: Path | str) -> bool:
    """Whether the lake is in object storage."""
    return str(root).startswith(S3)


def address(text: str) -> Path:
    """A folder in object storage; it answers to what is asked of a Path here, its `str` begins with s3://.

    Raises StorageError where the packages are missing that it takes.
    """
    bucket, _, prefix = text.removeprefix(S3).partition("/")
    if not bucket:
        raise StorageError(f"{text}: names no bucket; a lake in object storage is s3://BUCKET or s3://BUCKET/PREFIX")
    try:
        import s3fs  # noqa: F401
        from upath import UPath
    except ImportError:
        raise StorageError(f"{text}: object storage needs more packages: pip install --editable '.[s3]'") from None
    told = dict(_told())
    _, region, endpoint = _settings(_told())
    who = told.get("AWS_ACCESS_KEY_ID") or told.get("AWS_PROFILE", "")
    settings: dict[str, Any] = {
        "use_listings_cache": False,
        "endpoint_url": endpoint,
        "client_kwargs": {"region_name": region},
        "config_kwargs": {
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "user_agent_extra": f"histolake {who}".strip(),  # another's connection is another
            "retries": {"total_max_attempts": 1},  # s3fs tries again by itself
        },
    }
    return cast(Path, UPath("/".join([S3 + bucket, *filter(None, prefix.split("/"))]), **settings))


def options(root: Path | str) -> dict[str, str] | None:
    """The storage options of deltalake and Polars for the lake; None for a folder.

    Raises StorageError where nothing tells who we are.
    """
    return _options(_told()) if is_remote(root) else None


def configuration(root: Path) -> dict[str, str | None]:
    """Delta's properties of the lake's tables: opening one asks for every commit since its newest checkpoint."""
    return {"delta.checkpointInterval": CHECKPOINT_COMMITS} if is_remote(root) else {}


def access(root: Path | str) -> dict[str, str]:
    """What another process's environment needs to read the lake; nothing for a folder."""
    return {name: value for name, value in (options(root) or {}).items() if name.startswith("AWS_")}


def scan(table: DeltaTable) -> pl.LazyFrame:
    """The table's rows, as Polars reads them, with the table's own storage options."""
    import polars as pl

    numbers = {"max_retries": ATTEMPTS - 1} if is_remote(table.table_uri) else None  # it takes no text for one
    return pl.scan_delta(table, storage_options=numbers)


def server() -> str:
    """The address of the store: AWS's in its region where nothing names another."""
    _, region, endpoint = _settings(_told())
    return endpoint or f"https://s3.{region}.amazonaws.com"


def _told() -> tuple[tuple[str, str], ...]:
    """What the environment tells of object storage."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


def _options(told: tuple[tuple[str, str], ...]) -> dict[str, str]:
    credentials, region, endpoint = _settings(told)
    with explained("object storage"):
        keys = credentials.get_frozen_credentials() if credentials is not None else None  # anew when they run out
    if keys is None or not keys.access_key or not keys.secret_key:
        raise StorageError(
            "object storage: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a "
            "profile in ~/.aws"
        )
    wanted = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_REGION": region,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true" if endpoint and endpoint.startswith("http://") else None,
        "connect_timeout": f"{CONNECT_S}s",
        "timeout": f"{READ_S}s",
        "max_retries": str(ATTEMPTS - 1),
        "retry_timeout": f"{ATTEMPTS_S}s",
    }
    return {name: value for name, value in wanted.items() if value}


@lru_cache(maxsize=4)
def _settings(told: tuple[tuple[str, str], ...]) -> tuple[Any, str, str | None]:
    """Botocore's credentials, which renew themselves, the region, and the address of a store other than AWS's.

    The region is AWS's first where nothing names one: other stores ignore it, and AWS tells which one it is.
    """
    import botocore.session
    from botocore.configprovider import ConfiguredEndpointProvider

    with explained("object storage"):
        session = botocore.session.get_session()
        profile = session.get_scoped_config()
    region = dict(told).get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    endpoint = ConfiguredEndpointProvider(session.full_config, profile, "s3").provide()
    return session.get_credentials(), str(region), endpoint


# -- what is there


def tables(root: Path) -> set[str]:
    """The names of the lake's tables; empty where there is no lake."""
    if is_remote(root):
        return {name for name in _names(root) if name not in ("onnx", "mlflow", "sql")}
    return {log.parent.name for log in root.glob(f"*/{LOG}") if _has_commit(log)}


def _has_commit(log: Path) -> bool:
    """Whether a table was made there; who was killed while it made one leaves an empty folder, or half a commit."""
    with os.scandir(log) as files:
        return any(file.name.endswith((".json", ".parquet")) for file in files)


def is_free(root: Path, names: Collection[str]) -> bool:
    """Whether a lake with tables of these names may be made there: only another process that makes it was there."""
    if is_remote(root):
        return _names(root) <= set(names)

    def may_be_ours(entry: Path) -> bool:
        return entry.name in names and all(inside.name == LOG for inside in entry.iterdir())

    return not root.is_dir() or all(map(may_be_ours, root.iterdir()))


def _names(folder: Path) -> set[str]:
    """Of what is in the folder, which some stores list too: one request for a thousand."""
    bucket, prefix = _key(folder)
    request = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "Delimiter": "/"}
    found: set[str] = set()
    for page in _pages(folder, request):
        names = [each["Prefix"] for each in page.get("CommonPrefixes", ())]
        names += [each["Key"] for each in page.get("Contents", ())]
        found.update(name.rstrip("/").rpartition("/")[2] for name in names if name != request["Prefix"])
    return found


def _key(path: Path | str) -> tuple[str, str]:
    """The bucket and the key of an address."""
    bucket, _, key = str(path).removeprefix(S3).partition("/")
    return bucket, key


def _fs(path: Path) -> Any:
    """The file system that a path in object storage is in. Raises StorageError where nothing tells who we are."""
    options(path)
    return cast(Any, path).fs


@contextmanager
def explained(place: Path | str) -> Iterator[None]:
    """A StorageError that says what the store's error means, and where, in the place of the error."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        raise StorageError(f"{place}: {reason(error)}") from error


def prove(place: Path) -> None:
    """See that the store refuses to write an object that is there, where it was asked to: commits depend on it.

    Once in a process for every bucket. Raises StorageError where it does not.
    """
    if not is_remote(place):
        return
    bucket, key = _key(place)
    endpoint = _settings(_told())[2] or "AWS"
    with _proving:
        if (endpoint, bucket) in _proven:
            return
        fs = _fs(place)
        probe = {"Bucket": bucket, "Key": f"{key}/.probe-{uuid.uuid4().hex}"}
        with explained(place):
            fs.call_s3("put_object", **probe, Body=b"", IfNoneMatch="*")
            try:
                is_safe = _is_refused(fs, probe)
            finally:
                fs.call_s3("delete_object", **probe)
        if not is_safe:
            raise StorageError(
                f"{S3}{bucket}: the store at {endpoint} ignores If-None-Match, so of two commits at once it would lose "
                "one without a word; nothing was written. Use a store that honours conditional writes, as AWS S3 does"
            )
        _proven.add((endpoint, bucket))


def _is_refused(fs: Any, probe: Mapping[str, str]) -> bool:
    try:
        fs.call_s3("put_object", **probe, Body=b"", IfNoneMatch="*")
    except OSError as error:  # of s3fs, which has several names for it
        answer = getattr(error.__cause__, "response", {})
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == PRECONDITION_FAILED:
            return True
        raise
    return False


def missing(table: str, files: Sequence[str]) -> str | None:
    """One of a table's files that is not there. Folders are listed, which takes less than looking for each file."""
    if is_remote(table):
        if not files:
            return None
        bucket, prefix = _key(table.rstrip("/"))
        behind_the_log = f"{prefix}/{LOG}0"
        found = {f"{S3}{bucket}/{each['Key']}" for each in _objects(address(table), behind_the_log)}
        return next((file for file in files if file not in found), None)
    there: dict[str, set[str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        if folder not in there:
            there[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in there[folder]:
            return file
    return None


def size(folder: Path, files: Sequence[str]) -> int:
    """The bytes of those of a folder's files that are there."""
    if is_remote(folder):
        wanted = {_key(folder / file)[1] for file in files}
        return sum(each["Size"] for each in _objects(folder, "") if each["Key"] in wanted) if files else 0
    return sum(path.stat().st_size for path in (folder / file for file in files) if path.exists())


def unfinished(table: str, hours: int) -> list[str]:
    """Files in a table's folder that a writer began so long ago, and never finished: paths in the folder.

    They bear other names until they are whole. In object storage a part of an object is none.
    """
    if is_remote(table):
        return []
    from urllib.request import url2pathname  # which takes as long to import as all else here

    folder, began = Path(url2pathname(urlparse(table).path)), time.time() - hours * 3600
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if UNFINISHED.search(file.name) and file.stat().st_mtime < began
    ]


def newest_commit(log: Path) -> tuple[str, int]:
    """The file of the newest commit in a table's log, and when it was written, ns. Raises OSError, ValueError.

    In object storage a commit may be FRESH_S old before it is seen.
    """
    if is_remote(log):
        return _newest_object(log)
    with os.scandir(log) as files:
        newest = max((file for file in files if file.name.endswith(".json")), key=lambda file: file.name)
        return newest.name, newest.stat().st_mtime_ns


def _newest_object(log: Path) -> tuple[str, int]:
    """As `newest_commit`; asks for what comes after the one before the newest that was seen, not for all of them."""
    with _asking:
        asked, name, written = _newest.get(str(log), (0.0, "", 0))
        if name and time.monotonic() - asked < FRESH_S:
            return name, written
        before = f"{int(Path(name).stem) - 1:020}.json" if name else ""
        found = _commits(log, before) or _commits(log, "")
        name, written = max(found)
        _newest[str(log)] = (time.monotonic(), name, written)
        return name, written


def _commits(log: Path, after: str) -> list[tuple[str, int]]:
    """The commits of a log whose names come after `after`: name and time written, ns."""
    found = _objects(log, f"{_key(log)[1]}/{after}")
    names = [(each["Key"].rpartition("/")[2], int(each["LastModified"].timestamp() * 1e9)) for each in found]
    return [(name, written) for name, written in names if name.endswith(".json") and Path(name).stem.isdigit()]


def _objects(folder: Path, after: str) -> Iterator[dict[str, Any]]:
    """What S3 tells of the objects in a folder, and in those in it, whose keys come after `after`."""
    bucket, key = _key(folder)
    for page in _pages(folder, {"Bucket": bucket, "Prefix": f"{key}/", "StartAfter": after}):
        yield from page.get("Contents", ())


def _pages(folder: Path, request: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The answers to a listing: a request for a thousand objects."""
    token: dict[str, str] = {}
    while True:
        with explained(folder):
            page = _fs(folder).call_s3("list_objects_v2", **request, **token)
        yield page
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


# -- files that are no table's


def sql_files(folder: Path) -> list[Path]:
    """The SQL files in a folder, by name; none where it is not there."""
    if is_remote(folder):
        return [folder / name for name in sorted(_names(folder)) if name.endswith(".sql")]
    return sorted(folder.glob("*.sql"))


def keep(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files, the last of which tells that all are there, under these names into a folder that never changes."""
    *_, last = files
    if is_remote(folder):
        if last in _names(folder):
            return
        with explained(folder):
            for name, file in files.items():
                _fs(folder).put_file(str(file), f"{folder}/{name}")
        return
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    for name, file in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, partial / name)
    _take_place(partial, folder)


def at_hand(folder: Path) -> Path:
    """A folder of files that never change, as one on this machine: fetched once from object storage.

    It is kept under its name, which is a hash of what is in it, in this machine's cache.
    """
    if not is_remote(folder):
        return folder
    kept = cache_dir() / folder.parent.name / folder.name
    if not kept.is_dir():
        partial = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}")
        bucket, key = _key(folder)
        for found in _objects(folder, ""):
            file = partial / found["Key"].removeprefix(f"{key}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            with explained(folder):
                _fs(folder).get_file(f"{S3}{bucket}/{found['Key']}", str(file))
        if not partial.is_dir():
            raise StorageError(f"{folder}: is not there; restore it, or add the encoder again")
        _take_place(partial, kept)
    return kept


def _take_place(partial: Path, folder: Path) -> None:
    """Make `partial` the folder, unless another process was quicker."""
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not folder.is_dir():
            raise
