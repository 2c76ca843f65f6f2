"""Where this machine keeps what was fetched or built once: weights, encoders, slides."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """HISTOLAKE_CACHE, else the user's cache folder."""
    named = os.environ.get("HISTOLAKE_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("histolake", appauthor=False))
