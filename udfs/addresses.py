"""Addresses of slides that are no files of this machine: s3://bucket/key, https://host/path, http://host/path."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from udfs.errors import SlideError, quoted

SCHEMES = ("s3://", "https://", "http://")


def is_address(path: str) -> bool:
    """Whether a slide's path is an address, and not a file's."""
    return path.startswith(SCHEMES)


def checked(address: str) -> str:
    """The address, if it can stand in a table and a log for everyone to read.

    Raises SlideError for one that carries a signature, a password or any other query; its message leaves them out.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SlideError(f"{quoted(address)}: not an address ({error}); correct it") from None
    if any(ord(letter) < 32 for letter in address):
        raise SlideError(f"{quoted(address)}: an address has no control characters; correct it")
    public = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc:
        raise SlideError(
            f"{public}: the address carries a user or password, which tables and logs would keep; "
            "leave it out, and put credentials into the environment, AWS's files or ~/.netrc"
        )
    if not address.startswith("s3://") and (parts.query or parts.fragment or "?" in address):
        raise SlideError(
            f"{public}: the address has a query, such as a presigned address's signature: it would be kept in tables "
            "and logs, and stop working when it expires; give s3://bucket/key with credentials in the environment, "
            "or an address without query"
        )
    if not parts.netloc:
        raise SlideError(f"{public}: the address names no {'bucket' if parts.scheme == 's3' else 'host'}")
    return address


def file_name(address: str) -> str:
    """The name of the file behind an address, as it is called on this machine."""
    key = address.partition("://")[2].partition("/")[2]
    return PurePosixPath(key if address.startswith("s3://") else unquote(key)).name
