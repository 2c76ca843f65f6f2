"""Text for pages that read Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\*_{}\[\]()#+.!|~$<>:&^-])")


def escaped(text: str) -> str:
    """`text` so that Markdown shows it as it is, apart from commands between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a lone backtick quotes nothing
        return _SPECIAL.sub(r"\\\1", text.replace("`", "'"))
    return "`".join(part if index % 2 else _SPECIAL.sub(r"\\\1", part) for index, part in enumerate(parts))
