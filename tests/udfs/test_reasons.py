"""Of what a library says about a file that it cannot read, its own words pass, and nothing that it quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.reasons import LONGEST, reason

SAID = [
    ("Key file contains line “Jane Doe” which is not a key-value pair, group, or comment", "Key file contains line …"),
    ("Couldn't read keyfile: /data/Jane Doe.vms", "Couldn't read …"),
    ("Couldn't parse image dimensions: 7719047x3", "Couldn't parse image dimensions: …"),
    ("TIFF directory 3: Not a JPEG file: starts with 0x4a 0x61", None),
    ("JPEG: Unsupported marker type 0xda", None),
    ("Cannot read TIFF directory 12", None),
]


@pytest.mark.parametrize(("said", "told"), SAID)
def test_words_of_the_library_pass_and_what_it_quotes_does_not(said: str, told: str | None) -> None:
    found = reason(ValueError(said))
    assert found.startswith(told or said)
    assert not {"Jane", "Doe", "7719047"} & set(found.replace(".", " ").split())


def test_an_error_of_the_system_says_what_and_not_where() -> None:
    assert reason(PermissionError(13, "Permission denied", "/data/Jane Doe.svs")) == "Permission denied"
    assert reason(MemoryError("of tumor_001")) == "it takes more memory than a slide may"


@given(st.text(alphabet=st.characters(categories=["L", "N", "M", "S", "P", "Z"]), min_size=1), st.integers(1000))
def test_whatever_is_quoted_stays_out(quoted: str, number: int) -> None:
    found = reason(ValueError(f"Bad value Zz{quoted} {number} for tag “zZ{quoted}”"))
    assert "zz" not in found.lower()
    assert str(number) not in found
    assert len(found) <= LONGEST + 1
