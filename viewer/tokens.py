"""Short-lived tokens: a page that shows a slide gives its person one, and the slide's routes ask for it.

A token is good for one person, one slide, one kind of picture and some minutes, and only in this process. It is the
same for all that is asked within half its life, so that addresses with a token in them can be kept by the browser.
"""

from __future__ import annotations

import hmac
import json
import secrets
from time import monotonic
from typing import Literal

from viewer import roles
from viewer.login import token_seconds

Kind = Literal["slide", "thumbnail"]

_KEY = secrets.token_bytes(32)
_WINDOWS = 3  # half lives until a token ends: it is good for one life at least, one and a half at most


def token(subject: str, kind: Kind, slide_id: str) -> str:
    """What lets this person see this slide, or its thumbnail."""
    until = f"{window() + _WINDOWS:x}"
    return f"{until}.{_signature(subject, kind, slide_id, until)}"


def window() -> int:
    """Number of the half life that it is; tokens of another one are better renewed."""
    return int(monotonic() / (token_seconds() / 2))


def check(subject: str, kind: Kind, slide_id: str, given: str | None) -> None:
    """Deny unless `given` is a token that this person was given for this slide, not long ago."""
    deed = f"see slide {slide_id}"
    if not given:
        roles.deny(subject, deed, "a slide is seen from the page that shows it: open it in the app")
    until, _, signature = given.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(subject, kind, slide_id, until).encode()):
        roles.deny(subject, deed, "this token is not yours, or of another slide: open the slide in the app")
    if int(until, 16) <= window():
        roles.deny(subject, deed, "this token has expired: open the slide in the app again")


def _signature(subject: str, kind: Kind, slide_id: str, until: str) -> str:
    return hmac.new(_KEY, json.dumps([subject, kind, slide_id, until]).encode(), "sha256").hexdigest()
