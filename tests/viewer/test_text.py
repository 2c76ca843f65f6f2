"""Text as the pages show it."""

from __future__ import annotations

import pytest

from viewer.text import escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `histolake run --all`.", r"run `histolake run --all`\."),
        ("`a` and `b_c`", "`a` and `b_c`"),
        ("it`s *bold*", r"it's \*bold\*"),
        ("![](https://a.example/x.png)", r"\!\[\]\(https\://a\.example/x\.png\)"),
        ("`\n\n![](x)\n\n`", "'\n\n\\!\\[\\]\\(x\\)\n\n'"),  # a blank line ends what a backtick began
        ("`\r![](x)`", "'\r\\!\\[\\]\\(x\\)'"),
        ("`` ![](x) `", r"'' \!\[\]\(x\) '"),  # a run of two is ended by a run of two alone
        ("`a``![](x)`", r"'a''\!\[\]\(x\)'"),
        (r"\`![](x)\`", r"\\`![](x)\`"),
        ("", ""),
    ],
)
def test_markdown_shows_text_as_it_is_and_commands_as_code(text: str, shown: str) -> None:
    assert escaped(text) == shown
