"""Pseudonyms in a lake: names and paths are replaced before anything else sees them, and the key stays outside.

Equal names get equal pseudonyms, so that what SQL makes of names, it makes of pseudonyms: which manifest's row, which
annotation file and which patient belong to a slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from lake import session, storage, store
from lake.sql_files import query
from udfs import pseudonyms
from udfs.addresses import KEY_VARIABLE, PSEUDONYM
from udfs.errors import HistolakeError, KeyFileError
from udfs.pseudonyms import KeyFile

SETTING = "pseudonyms"  # of the lake: the key_id of its key file
LABELS = {"", "tumor", "normal"}

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """What ingest has found, as the queries of sql/ingest take it.

    slides: path, stem. manifest: its columns. annotations: path, stem, slide_stem. coordinates: slide_id, source, x, y,
    label.
    """

    slides: pa.Table
    manifest: pa.Table
    annotations: pa.Table
    coordinates: pa.Table


def key_file(root: Path, file: Path | None, run_id: str) -> KeyFile | None:
    """The key file of the lake's pseudonyms; None for a lake without. A new lake takes `file`, made where it is not.

    Raises HistolakeError when the lake has slides under their own names, or pseudonyms and no key file is given, and
    KeyFileError when that lies in the lake, is another lake's, or will not do.
    """
    written = store.setting(root, SETTING)
    if file is None:
        if written is not None:
            raise HistolakeError(
                f"{root}: the lake's slides have pseudonyms; --pseudonymize FILE, or {KEY_VARIABLE}, names the "
                "key file that they were made with"
            )
        return None
    if not storage.is_remote(root) and file.resolve().is_relative_to(root.resolve()):
        raise KeyFileError(f"{file}: the key file is in the lake, whose readers would have it; name another place")
    if written is None:
        if any(not store.rows(root, name).is_empty() for name in ("slides", "annotations")):
            raise HistolakeError(
                f"{root}: the lake holds slides or annotations under their own names, and its older versions would go "
                f"on telling them; make a new lake for pseudonyms, or ingest without, and without {KEY_VARIABLE}"
            )
        key = pseudonyms.make(file)
        store.put(root, "settings", [{"name": SETTING, "value": key.key_id}], run_id)
        return key
    key = pseudonyms.opened(file)
    if key.key_id != written:
        raise KeyFileError(f"{file}: not the key file that the lake's pseudonyms were made with; name that one")
    return key


def veiled(found: Found, key: KeyFile) -> Found:
    """The same with pseudonyms for names and paths, all of which the key file knows afterwards.

    Raises HistolakeError for a label of the manifest that is free text.
    """
    if not {(label or "").lower() for label in found.manifest["label"].to_pylist()} <= LABELS:
        raise HistolakeError("the manifest's column label: only tumor, normal or nothing in a lake of pseudonyms")
    veil = _Veil(key)
    slides = veil.columns(found.slides, path="path", stem="slide")
    manifest = veil.columns(found.manifest, path="path", slide_id="slide", patient_id="patient")
    coordinates = veil.columns(found.coordinates, slide_id="slide", source="file")
    annotations = veil.columns(veil.files(found.annotations), stem="slide", slide_stem="slide")
    key.record(veil.rows)
    return Found(slides, manifest, annotations, coordinates)


class _Veil:
    """Replaces columns by pseudonyms, and remembers these for the key file: pseudonym, kind, name."""

    def __init__(self, key: KeyFile) -> None:
        self._key = key
        self.rows: set[tuple[str, str, str]] = set()

    def columns(self, table: pa.Table, **kinds: str) -> pa.Table:
        for column, kind in kinds.items():
            values = [None if name is None else self._one(kind, name) for name in table[column].to_pylist()]
            table = table.set_column(table.column_names.index(column), column, pa.array(values, pa.string()))
        return table

    def files(self, table: pa.Table) -> pa.Table:
        """Annotation files: what stands for the path ends in what stands for the file's name."""
        values = []
        for path in table["path"].to_pylist():
            values.append(f"{self._key.path(path)}/{self._one('file', Path(path).name)}")
            self.rows.add((values[-1], "path", path))
        return table.set_column(table.column_names.index("path"), "path", pa.array(values, pa.string()))

    def _one(self, kind: str, name: str) -> str:
        found = self._key.path(name) if kind == "path" else self._key.pseudonym(kind, name)
        self.rows.add((found, kind, name))
        return found


def meanings(root: Path, wanted: Sequence[str] = ()) -> tuple[Rows, Rows]:
    """What pseudonyms of the lake stand for: its slides, then others.

    wanted: of slides, patients, paths or annotation files; by default all slides. A slide's row: slide_id, slide,
    patient, path. Another's: pseudonym, name. Raises HistolakeError for a lake without pseudonyms, or a pseudonym that
    the key file does not know, and KeyFileError when that is not at hand.
    """
    key_id = store.setting(root, SETTING)
    if key_id is None:
        raise HistolakeError(f"{root}: the slides of this lake have no pseudonyms")
    key = pseudonyms.key_of(f"{PSEUDONYM}{key_id}")
    with session.connect(root, udfs=()) as con:
        held = con.execute(query("ingest/pseudonyms"), {"wanted": list(wanted)}).fetchall()
    of_slides = {name for row in held for name in row if name is not None}
    known = key.names([*of_slides, *wanted])
    unknown = [name for name in (*of_slides, *wanted) if name not in known]
    if unknown:
        raise HistolakeError(f"{unknown[0]}: the key file {key.file} does not know this pseudonym")
    slides = [
        {"slide_id": slide_id, "slide": known[slide_id], "patient": known.get(patient_id), "path": known[path]}
        for slide_id, patient_id, path in held
    ]
    return slides, [{"pseudonym": name, "name": known[name]} for name in wanted if name not in of_slides]
