"""What a store's errors mean, in a line: the cause that it names and the remedy."""

from __future__ import annotations

import re

from udfs.errors import StorageError

KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and the files in ~/.aws"

OURS = r'[^"\n]+/part-\d+-[0-9a-f-]{36}-[^"\n/]+\.parquet'  # as deltalake names files
GONE = (
    "this file was deleted while the lake was open, by `histolake vacuum` or from outside; do it again: that reads the "
    "lake as it is now"
)

FAULTS = (
    (r"RequestTimeTooSkewed", "this machine's clock is not the store's; set it, e.g. by NTP"),
    (r"ExpiredToken|TokenRefreshRequired|expired", "the credentials have expired; sign in again"),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|Unauthorized\b|\b401\b",
        f"the store refuses the credentials; {KEYS}",
    ),
    (r"AccessDenied|Forbidden|\b403\b", f"the store denies access; {KEYS}, and what they may do with this bucket"),
    (r"NoSuchBucket|specified bucket does not exist", "there is no such bucket; make it, or correct the address"),
    (
        r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|"
        r"redirect without LOCATION|wrong region",
        "the bucket is in another region; set AWS_REGION to that one",
    ),
    (r"SlowDown|ServiceUnavailable|\b503\b|TooManyRequests", "the store is overloaded; try again later"),
    (
        r"error sending request|[Cc]onnect(?:ion)?\b|ConnectionClosed|[Tt]imed? ?out|[Dd]ns error|Name or service"
        r"|error decoding response body|Could not connect|IncompleteRead|ResponseParserError|ClientPayloadError",
        "the store cannot be reached, or the connection broke; check AWS_ENDPOINT_URL and the network, then try again: "
        "what was committed stays",
    ),
)


def fault(error: BaseException | str) -> str | None:
    """The sentence for an error of the store; None for one that is not known to be the store's."""
    cause = getattr(error, "__cause__", None)  # of s3fs's errors, which have the system's names
    text = plain(error) + (f" {plain(cause)}" if cause else "")
    return next((meaning for pattern, meaning in FAULTS if re.search(pattern, text)), None)


def reason(error: BaseException | str) -> str:
    """What an error means: of the store's the sentence, of others their own text in a line."""
    return fault(error) or plain(error)


def plain(error: BaseException | str) -> str:
    """An error's text in a line, without the colours and arrows of deltalake."""
    text = re.sub(r"\x1b\[\d*m|↳", "", str(error))
    return " ".join(text.split()) or type(error).__name__


def read_failure(error: BaseException) -> StorageError | None:
    """What a reader of the lake's files raised within DuckDB, which hands on nothing but its text."""
    found = re.search(r"\bStorageError: ([^\n]+)", str(error))
    if found:
        return StorageError(found[1])
    gone = re.search(
        rf'No files found that match the pattern "({OURS})"|Cannot open file "({OURS})": No such', str(error)
    )
    return StorageError(f"{gone[1] or gone[2]}: {GONE}") if gone else None
