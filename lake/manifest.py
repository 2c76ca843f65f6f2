"""Reads manifests: CSV files that tell what a slide's file does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa

from udfs.errors import HistolakeError, quoted, shortened

COLUMNS = dict.fromkeys(("slide_id", "path", "patient_id", "split", "label"), pl.String) | {"mpp": pl.Float64}
SPLITS = ("train", "validation", "test")
LARGEST = 2**29  # bytes: some million slides
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
FORMULA = r"^[=+@-]"  # what spreadsheets would compute, should the text reach one
TEXTS = ("slide_id", "patient_id", "label")


def read_manifest(path: Path | None, found_at: Callable[[str], str]) -> pa.Table:
    """The manifest's rows, all columns present; slide paths are relative to the manifest's folder.

    found_at: the slide at an address. Raises HistolakeError naming the file, and what of it is no manifest.
    """
    if path is None:
        return pl.DataFrame(schema=COLUMNS).to_arrow()
    try:
        rows = pl.read_csv(_text(path).encode(), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise HistolakeError(f"{path}: the manifest cannot be read: {_first_line(error)}") from None
    unknown = set(rows.columns) - set(COLUMNS)
    if unknown or not {"slide_id", "path"} & set(rows.columns):
        has = quoted(", ".join(rows.columns))
        raise HistolakeError(
            f"{path}: a manifest has slide_id or path, and any of {', '.join(COLUMNS)}; this one has {has}"
        )
    rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in rows.columns)
    try:
        rows = rows.select(
            pl.col(name).str.strip_chars().replace("", None).cast(type_) for name, type_ in COLUMNS.items()
        )
    except pl.exceptions.PolarsError as error:
        raise HistolakeError(f"{path}: mpp must be a number, microns per pixel: {_first_line(error)}") from None
    _check(path, rows)
    folder = path.absolute().parent

    def placed(name: str) -> str:
        return found_at(name) if "://" in name else str((folder / name).absolute())

    paths = [None if name is None else placed(name) for name in rows["path"]]
    return rows.with_columns(pl.Series("path", paths, pl.String)).to_arrow()


def _text(path: Path) -> str:
    """The file's text: what is compressed, or binary, is none."""
    try:
        if path.exists() and not path.is_file():  # a device or a pipe would be read for ever
            raise HistolakeError(f"{path}: the manifest is not a file; name a CSV file")
        if path.stat().st_size > LARGEST:
            raise HistolakeError(f"{path}: larger than {LARGEST / 2**20:,.0f} MB, as no manifest is; split it")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise HistolakeError(f"{path}: the manifest cannot be read: {error.strerror}; was it moved?") from None
    except ValueError as error:  # also a name that no file can have
        why = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise HistolakeError(f"{path}: the manifest is no UTF-8 text ({why}); save it as CSV in UTF-8") from None
    if CONTROL.search(text):
        raise HistolakeError(f"{path}: the manifest holds bytes that are no text; save it as CSV in UTF-8")
    return text


def _check(path: Path, rows: pl.DataFrame) -> None:
    wrong = rows.filter(~pl.col("split").is_in(SPLITS))["split"].to_list()
    if wrong:
        raise HistolakeError(f"{path}: split {quoted(wrong[0])} must be one of {', '.join(SPLITS)}")
    for name in TEXTS:
        formulas = rows.filter(pl.col(name).str.contains(FORMULA))[name].to_list()
        if formulas:
            raise HistolakeError(
                f"{path}: {name} {quoted(formulas[0])} is a formula to a spreadsheet; begin it with a letter or digit"
            )


def _first_line(error: pl.exceptions.PolarsError) -> str:
    return shortened(str(error).strip().partition("\n")[0])
