"""The encoders of a lake: the one that a person means, and its ONNX file in the lake's folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lake import session, storage, store
from udfs.encoders import catalog
from udfs.encoders.encoder import EncoderSpec
from udfs.encoders.onnx_file import external_data
from udfs.errors import EncoderError


def choose(root: Path, name: str | None, run_id: str) -> tuple[EncoderSpec, str]:
    """The encoder called `name` (name, encoder_id or 'auto'), its ONNX file in the lake, and why it is that one.

    'auto', and no name, mean the one that the lake uses already; a new lake takes the best at hand and
    keeps the choice.
    """
    known = {row["encoder_id"]: EncoderSpec(**row) for row in store.rows(root, "encoders").to_dicts()}
    kept = known.get(store.setting(root, "encoder_id") or "")
    if name in (None, "auto") and kept:
        return kept, "the lake uses it"
    for spec in known.values():
        if name == spec.encoder_id:
            return spec, "asked for"
    named = [spec for spec in known.values() if spec.name == name]
    if len(named) > 1:
        raise EncoderError(f"--encoder {name}: say which one: {', '.join(spec.encoder_id for spec in named)}")
    if named:
        return named[0], "asked for"
    chosen, why = (name, "asked for") if name not in (None, "auto") else catalog.choose_auto()
    if chosen not in catalog.BUILT_IN:
        has = ", ".join([*catalog.BUILT_IN, *(spec.name for spec in known.values())])
        raise EncoderError(
            f"--encoder {chosen}: no such encoder; there are {has}; add one with `histolake encoders add`"
        )
    spec, file = catalog.prepare(chosen)
    if not kept:  # before it is added: stopped in between, the next run would find it, and not keep the choice
        store.put(root, "settings", [{"name": "encoder_id", "value": spec.encoder_id}], run_id)
    add(root, spec, file, run_id)
    return spec, why


def add(root: Path, spec: EncoderSpec, file: Path, run_id: str) -> None:
    """Copy the encoder's ONNX file, and the files that hold its weights, into the lake; describe it in encoders."""
    files = {name: file.parent / name for name in external_data(file)}
    storage.keep({**files, session.ENCODER_FILE: file}, root / "onnx" / spec.sha256)
    known = store.rows(root, "encoders")["encoder_id"].to_list()
    if spec.encoder_id not in known:
        store.put(root, "encoders", [asdict(spec)], run_id)
