"""Slides on web servers: files whose length the server tells, read by ranges where it knows them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import requests

from udfs.addresses import checked, file_name
from udfs.errors import FetchError, MissingError
from udfs.remote import BrokenError, ChangedError, RemoteFile

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
BLOCK = 2**16  # bytes; what a broken connection loses at most
SEVERAL_FILES = {".dcm", ".mrxs", ".vms", ".vmu"}
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses that say: try again
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)

_sessions = threading.local()


class _Http:
    """Answers by GET alone: servers that sign addresses, or have a script behind them, may know no HEAD."""

    def files(self, address: str) -> list[RemoteFile]:
        """The slide's one file."""
        with _get(address, {"Range": "bytes=0-0"}) as response:
            return [RemoteFile(address, file_name(address), _length(response, address), _version(response))]

    def open(self, file: RemoteFile, start: int) -> tuple[int, Iterator[bytes]]:
        """The file from `start` on, or all of it from a server that knows no ranges."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and not file.version.startswith("W/"):  # a weak tag may not ask for a range
            headers["If-Range"] = file.version
        response = _get(file.address, headers)
        try:
            _refuse_another(response, file)
        except FetchError:
            response.close()
            raise
        return (start if response.status_code == 206 else 0), _blocks(response, file.address)

    def samples(self, file: RemoteFile, places: Sequence[int], size: int) -> list[bytes] | None:
        """One request each, on one connection."""
        found = []
        for place in places:
            if file.size == 0:
                found.append(b"")
                continue
            last = min(place + size, file.size) - 1
            with _get(file.address, {"Range": f"bytes={place}-{last}"}) as response:
                _refuse_another(response, file)
                if response.status_code != 206:
                    return None
                found.append(b"".join(_blocks(response, file.address)))
        return found

    def find(self, pattern: str, endings: set[str]) -> list[str]:
        """The address itself: web servers cannot be searched."""
        name = PurePosixPath(file_name(checked(pattern)))
        if not name.suffix or set(pattern) & set("*["):
            raise FetchError(f"{pattern}: a web server cannot be searched; give the address of each slide")
        if name.suffix.lower() in SEVERAL_FILES:
            raise FetchError(
                f"{pattern}: a {name.suffix} slide is several files, and a web server does not tell which; "
                "put them into a bucket, or into a folder of this machine"
            )
        return [pattern]


STORE = _Http()


def _get(address: str, headers: Mapping[str, str]) -> requests.Response:
    if not hasattr(_sessions, "session"):
        _sessions.session = requests.Session()
    asked = {"Accept-Encoding": "identity", **headers}
    try:
        response: requests.Response = _sessions.session.get(
            address, headers=asked, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )
    except requests.exceptions.SSLError as error:
        told = re.search(r"\[SSL[^()'\"]*", str(error))
        raise FetchError(
            f"{address}: no safe connection ({told[0].strip() if told else 'TLS failed'}); "
            "for a certificate of your own set REQUESTS_CA_BUNDLE to its file"
        ) from None
    except _BROKEN as error:
        why = "no answer in time" if isinstance(error, requests.Timeout) else "the server cannot be reached"
        raise BrokenError(f"{address}: {why}") from None
    except (requests.RequestException, ValueError) as error:  # ValueError: a host that no resolver asks for
        raise FetchError(f"{address}: {type(error).__name__}; is the address right?") from None
    if response.ok or response.status_code == requests.codes.requested_range_not_satisfiable:
        return response
    response.close()
    raise _refusal(address, response)


def _refusal(address: str, response: requests.Response) -> FetchError:
    status = f"{response.status_code} {response.reason}"
    if response.status_code in PASSING:
        return BrokenError(f"{address}: the server answers {status}")
    if response.status_code in (401, 403):
        return FetchError(f"{address}: access is denied ({status}); put credentials for the host into ~/.netrc")
    if response.status_code in (404, 410):
        return MissingError(f"{address}: not there ({status}); was the slide moved?")
    return FetchError(f"{address}: the server answers {status}")


def _length(response: requests.Response, address: str) -> int:
    told = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
    if told:
        return int(told[1])
    length, encoding = response.headers.get("Content-Length", ""), response.headers.get("Content-Encoding", "identity")
    if not response.ok or not length.isdigit() or encoding != "identity":
        raise FetchError(f"{address}: the server does not tell the file's length, so a fetched file cannot be verified")
    return int(length)


def _version(response: requests.Response) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _refuse_another(response: requests.Response, file: RemoteFile) -> None:
    """Raise ChangedError unless the response is of the file's version."""
    if _version(response) != file.version or _length(response, file.address) != file.size:
        raise ChangedError(f"{file.address}: the file changed while it was read; is it still being written?")


def _blocks(response: requests.Response, address: str) -> Iterator[bytes]:
    with response:
        try:
            yield from response.iter_content(BLOCK)
        except _BROKEN:
            raise BrokenError(f"{address}: the connection broke off") from None
