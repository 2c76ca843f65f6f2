"""Names planted in every place where a slide can hold one are in nothing that comes out of it.

Slides of six kinds, and files that cannot be read, go through the whole workflow; then all that was stored, cached,
printed, exported and served is searched, the compressed too. Once under the slides' own names, which then name nobody,
and once with names in the names of files, folders, patients and manifests as well, under pseudonyms.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import polars as pl
import pytest
from conftest import new_lake
from PIL import Image
from planted_slides import WRITERS, annotation, broken
from planting import Plant, leaks, leaks_of_folder, leaks_of_picture, pictures_in, shows_label
from starlette.applications import Starlette
from support import TestLake, run_command

from udfs import pseudonyms
from udfs.addresses import KEY_VARIABLE
from udfs.deep_zoom import DeepZoom
from udfs.slide import Area
from viewer.routes import ROUTES

SPLITS = {
    "generic": "train",
    "ome": "train",
    "aperio": "train",
    "trestle": "validation",
    "philips": "validation",
    "dicom": "test",
}
PLAIN, VEILED = "under their own names", "under pseudonyms"


@dataclass
class Ran:
    """A lake, and all that came out while it was made."""

    mode: str
    plant: Plant
    folder: Path
    lake: TestLake
    ids: dict[str, str] = field(default_factory=dict)  # slide_id of each kind
    printed: dict[str, str] = field(default_factory=dict)  # by command

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    def __call__(self, *words: str, fails: bool = False) -> str:
        """Run a command; keep what it printed, by Python or below it, a traceback included."""
        with _below_python(self.folder) as below:
            try:
                answer = run_command(*words, "--lake", str(self.lake.root))
                status, said = answer.status, answer.out + answer.err
            except Exception:  # with --trace errors are shown in full
                status, said = 1, traceback.format_exc()
        self.printed[" ".join(words)] = said + below.read_text(errors="surrogateescape")
        assert (status != 0) == fails, said
        return said

    def allowed(self, token: str) -> bool:
        """Whether the lake may hold it: under their own names shapes and groups are what the annotation files say."""
        place = self.plant.places.get(token, "")
        return self.mode == PLAIN and ("name of an annotation" in place or "group in ASAP XML" in place)

    def unexpected(self, found: dict[str, set[str]]) -> dict[str, dict[str, str]]:
        kept = {where: {each for each in tokens if not self.allowed(each)} for where, tokens in found.items()}
        return {where: self.plant.described(tokens) for where, tokens in kept.items() if tokens}


@contextmanager
def _below_python(folder: Path) -> Iterator[Path]:
    """Have what libraries write to stdout and stderr, past Python, go into a file."""
    target = folder / "below.txt"
    kept = [os.dup(number) for number in (1, 2)]
    sys.stdout.flush()
    sys.stderr.flush()
    with target.open("wb", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield target
        finally:
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)


@pytest.fixture(scope="module", params=[pytest.param(PLAIN, marks=pytest.mark.slow), VEILED])
def ingested(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path
) -> Iterator[Ran]:
    """A lake of all kinds of slides and of files that cannot be read."""
    folder, plant = tmp_path_factory.mktemp("privacy"), Plant()
    is_veiled = request.param == VEILED
    place = folder / (
        f"of {plant.name('name of a folder')} {plant.number('name of a folder')}" if is_veiled else "slides"
    )
    place.mkdir()
    ran = Ran(request.param, plant, folder, new_lake(folder / "lake", tiny_onnx))
    ran.exports.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOLAKE_CACHE", str(folder / "cache"))
        patch.delenv(KEY_VARIABLE, raising=False)
        if is_veiled:
            patch.setenv(KEY_VARIABLE, str(folder / "key.sqlite"))
        _ingest(ran, place)
        yield ran


def _ingest(ran: Ran, place: Path) -> None:
    is_veiled = ran.mode == VEILED
    rows = ["slide_id,path,patient_id,split"]
    names = {}
    for kind, write in WRITERS.items():
        name = ran.plant.name(f"name of the file, {kind}") if is_veiled else f"case_{kind}"
        written = write(place, name, ran.plant)
        file = next(iter(sorted(written.glob("*.dcm")))) if written.is_dir() else written
        names[kind] = ran.plant.name(f"slide_id in the manifest, {kind}") if is_veiled else name
        patient = ran.plant.number(f"patient_id in the manifest, {kind}") if is_veiled else f"P-{kind}"
        rows.append(f"{names[kind]},{file.relative_to(place)},{patient},{SPLITS[kind]}")
        (place / f"{names[kind]}.xml").write_text(annotation(ran.plant, kind))
    manifest = place / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    ran("ingest", "--manifest", str(manifest), "--annotations", f"{place}/*.xml")
    veil = pseudonyms.opened(Path(os.environ[KEY_VARIABLE])).pseudonym if is_veiled else None
    ran.ids = {kind: veil("slide", name) if veil else name for kind, name in names.items()}
    ugly = place / "broken"
    ugly.mkdir()
    files = broken(ugly, ran.plant)
    bad = ugly / "bad.xml"
    bad.write_text(f"<{ran.plant.name('broken: ASAP XML')}><unclosed>")
    ran("ingest", *map(str, files), "--annotations", str(bad), fails=True)


@pytest.fixture(scope="module")
def finished_lake(ingested: Ran) -> Ran:
    """The same after all commands, those that fail included."""
    ran, ids = ingested, ingested.ids
    tiling = ("--patch-px", "64", "--mpp", "1", "--encoder", "tiny")
    ran("run", *tiling, "--trace")
    ran(
        "run", *tiling, "--stage", "patch_images", fails=True
    )  # of the slide that is cut: features are of a coarser level
    ran("train", "--encoder", "tiny")
    ran("predict")
    ran("evaluate", "--json")
    for kind, slide_id in ids.items():
        ran("heatmap", slide_id, "--out", str(ran.exports / f"{kind}.png"))
        ran(
            "show",
            slide_id,
            *("--patches", "2", "--mpp", "1", "--mpp", "4"),
            "--out",
            str(ran.exports / f"{kind}-far.png"),
        )
    slide_id = ids["aperio"]
    ran("heatmap", slide_id, "--tint", "--out", str(ran.exports / "tint.png"))
    ran("heatmap", slide_id, "--out", str(ran.exports / "heatmap.tif"))
    ran("heatmap", slide_id, "--out", str(ran.exports / "heatmap.geojson"))
    for what in ("annotations", "predictions", "hotspots"):
        ran("export", what, "--out", str(ran.exports / what))
    ran("export", "hotspots", "--format", "csv", "--out", str(ran.exports / "froc"))
    ran("export", "scores", "--out", str(ran.exports / "scores.csv"))
    patch = ran.lake.read("features").filter(pl.col("slide_id") == slide_id).row(0, named=True)
    at = (slide_id, str(patch["x"]), str(patch["y"]))
    ran("explain", *at)
    ran("review", *at, "unsure")
    ran("label-errors", "--out", str(ran.exports / "doubtful.png"))
    for words in (["check"], ["doctor"], ["groups", "list"], ["models", "list"], ["history"], ["sql"]):
        ran(*words)
    for table in ("slides", "annotations", "runs"):
        ran("sql", f"from {table}", "--format", "json")
    _fail(ran)
    return ran


def _fail(ran: Ran) -> None:
    """Commands on slides that cannot be read, and on one whose file has gone; with --trace errors come in full."""
    told = ran.lake.read("slides").filter(pl.col("status") != "ok")
    assert told.height >= 8
    for slide_id in told["slide_id"]:
        ran("heatmap", slide_id, "--out", str(ran.exports / "no.png"), "--trace", fails=True)
    gone = ran.ids["generic"]
    place = pseudonyms.true_path(ran.lake.read("slides").filter(pl.col("slide_id") == gone)["path"][0])
    kept = Path(place).rename(ran.folder / "kept")
    ran("heatmap", gone, "--out", str(ran.exports / "no.png"), "--trace", fails=True)
    kept.rename(place)
    ran("ingest", *told["path"], "--retry-failed", "--trace", fails=True)
    ran("show", ran.ids["generic"], "--mpp", "-1", fails=True)
    ran("sql", "select slide_properties(path) from slides")
    ran("sql", "select crop(path, 0, 0, 64, 64, 64).error from slides where status <> 'ok'")


def test_every_kind_of_slide_is_read(ingested: Ran) -> None:
    """Else nothing would be shown by what is not found."""
    slides = {row["slide_id"]: row for row in ingested.lake.read("slides").to_dicts()}
    for kind, slide_id in ingested.ids.items():
        told = slides[slide_id]
        assert told["status"] == "ok", (kind, told["error"])
        assert (told["width"], told["height"], round(told["mpp_x"], 3)) == (1024, 768, 1.0), kind
    vendors = {kind: slides[slide_id]["vendor"] for kind, slide_id in ingested.ids.items()}
    assert vendors == {
        "generic": "generic-tiff",
        "ome": "generic-tiff",
        "aperio": "aperio",
        "trestle": "trestle",
        "philips": "philips",
        "dicom": "dicom",
    }


def test_the_search_finds_what_is_planted(ingested: Ran) -> None:
    """In the slides themselves every token can be found, and the labels' colour."""
    place = next(each for each in ingested.folder.iterdir() if each.name.startswith(("slides", "of ")))
    found = set().union(*leaks_of_folder(place).values()) | leaks(place.name.encode())
    drawn = {token for token, where in ingested.plant.places.items() if "drawn on" in where}
    wide = {token for token, where in ingested.plant.places.items() if "ICC" in where}
    missed = ingested.plant.places.keys() - found - drawn - wide
    assert not missed, ingested.plant.described(missed)
    assert any(shows_label(page) for file in place.glob("*.tif") for page in pictures_in(file))


def test_nothing_planted_is_stored_or_printed_by_ingest(ingested: Ran) -> None:
    assert ingested.unexpected(leaks_of_folder(ingested.lake.root)) == {}
    assert ingested.unexpected({words: leaks(text.encode()) for words, text in ingested.printed.items()}) == {}


def test_what_cannot_be_read_says_why_without_quoting_the_file(ingested: Ran) -> None:
    errors = ingested.lake.read("slides").filter(pl.col("status") != "ok")["error"].to_list()
    assert len(errors) >= 8
    assert all("cannot be" in each or "does not know this format" in each or "resolution" in each for each in errors)
    assert not leaks("\n".join(errors).encode())


@pytest.mark.slow
def test_nothing_planted_is_in_lake_cache_or_exports_after_all_commands(finished_lake: Ran) -> None:
    found = {}
    for folder in (finished_lake.lake.root, finished_lake.folder / "cache", finished_lake.exports):
        found |= leaks_of_folder(folder)
    assert len(list(finished_lake.exports.rglob("*"))) > 25
    assert finished_lake.unexpected(found) == {}


@pytest.mark.slow
def test_nothing_planted_is_printed(finished_lake: Ran) -> None:
    """What was typed is not what was printed: commands were given paths, and say none of them."""
    found = {words: leaks(text.encode(errors="surrogateescape")) for words, text in finished_lake.printed.items()}
    assert "select" in finished_lake.printed["run --patch-px 64 --mpp 1 --encoder tiny --trace"]
    assert any("Traceback" in text for text in finished_lake.printed.values())
    if finished_lake.mode == PLAIN:  # `explain`, `sql` and others show annotations
        found = {words: {each for each in tokens if not finished_lake.allowed(each)} for words, tokens in found.items()}
    assert {words: finished_lake.plant.described(tokens) for words, tokens in found.items() if tokens} == {}


@pytest.mark.slow
def test_no_label_is_in_a_stored_or_written_picture(finished_lake: Ran) -> None:
    seen = 0
    for folder in (finished_lake.lake.root, finished_lake.exports):
        for file in sorted(folder.rglob("*")):
            for picture in pictures_in(file) if file.is_file() else ():
                assert not shows_label(picture), file
                seen += 1
    assert seen > 300


def test_no_label_and_nothing_planted_is_served(ingested: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tile of every level, and thumbnails; headers and errors, too."""
    monkeypatch.setenv("HISTOLAKE_LAKE", str(ingested.lake.root))
    slides = ingested.lake.read("slides").to_dicts()
    asked = []
    for slide in slides:
        name = quote(slide["slide_id"], safe="")
        asked.append(f"/histolake/thumbnails/{name}.jpeg")
        if slide["status"] == "ok":
            pyramid = DeepZoom(Area(0, 0, slide["width"], slide["height"]))
            for level in range(pyramid.levels):
                columns, rows = pyramid.grid(level)
                asked += [f"/histolake/tiles/{name}/{level}/{c}_{r}.jpeg" for c in range(columns) for r in range(rows)]
        else:
            asked.append(f"/histolake/tiles/{name}/0/0_0.jpeg")
    asked += [f"/histolake/thumbnails/{kind}.jpeg" for kind in ("label", "macro", "thumbnail")]
    pictures = 0
    for answer in asyncio.run(_fetch(asked)):
        found = leaks(repr(answer.headers.raw).encode()) | leaks(answer.content)
        if answer.status_code == 200:
            found |= leaks_of_picture(answer.content)
            pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
            assert not shows_label(pixels), answer.url
            pictures += 1
        assert not found, (answer.url, ingested.plant.described(found))
    assert pictures > 6 * 20


async def _fetch(paths: list[str]) -> list[httpx.Response]:
    transport = httpx.ASGITransport(Starlette(routes=ROUTES))
    async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=60) as client:
        return [await client.get(path) for path in paths]


@pytest.mark.slow
def test_nothing_planted_is_on_a_page(finished_lake: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamlit as st
    from streamlit.testing.v1 import AppTest
    from support import ROOT

    from viewer import slides

    monkeypatch.setenv("HISTOLAKE_LAKE", str(finished_lake.lake.root))
    monkeypatch.setattr(type(st.context), "ip_address", None)  # this machine: the tester has no connection
    failed = finished_lake.lake.read("slides").filter(pl.col("status") != "ok")["slide_id"][0]
    shown = [("worklist", None), ("models", None), ("sql", None), ("lineage", None)]
    shown += [("viewer", finished_lake.ids["aperio"]), ("viewer", finished_lake.ids["dicom"]), ("viewer", failed)]
    for page, slide in shown:
        st.cache_data.clear()
        slides.forget()
        app = AppTest.from_file(ROOT / "viewer/navigation/main.py", default_timeout=120).run()
        app.switch_page(f"../pages/{page}.py")
        if slide:
            app.query_params["slide"] = slide
        app.run()
        assert not app.exception
        protos = [proto for each in app._tree if (proto := getattr(each, "proto", None)) is not None]
        sent = b"".join(proto.SerializeToString() for proto in protos)
        assert len(sent) > 500
        assert (slide or finished_lake.ids["dicom"]).encode() in sent or page not in ("worklist", "viewer")
        found = {each for each in leaks(sent) if not finished_lake.allowed(each)}
        assert not found, (page, finished_lake.plant.described(found))


@pytest.mark.slow
def test_heatmaps_and_outlines_are_served_without_names(finished_lake: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    from lake import store

    monkeypatch.setenv("HISTOLAKE_LAKE", str(finished_lake.lake.root))
    model = finished_lake.lake.read("models").row(0, named=True)
    version = store.open_table(finished_lake.lake.root, "runs").version()
    of_model = f"model={model['model_id']}&patch_set={model['patch_set']}&version={version}"
    asked = [
        f"/histolake/{route}/{quote(slide_id, safe='')}?{of_model}"
        for slide_id in finished_lake.ids.values()
        for route in ("heatmaps", "outcomes", "hotspots", "annotations")
    ]
    answers = asyncio.run(_fetch(asked))
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        found = leaks(repr(answer.headers.raw).encode()) | leaks(answer.content)
        assert not {each for each in found if not finished_lake.allowed(each)}, answer.url


def test_the_key_file_alone_knows_who_is_who(ingested: Ran) -> None:
    if ingested.mode == PLAIN:
        assert not (ingested.folder / "key.sqlite").exists()
        return
    key = ingested.folder / "key.sqlite"
    known = leaks(key.read_bytes())
    named = {
        token for token, where in ingested.plant.places.items() if where.startswith(("name of", "slide_id", "patient"))
    }
    assert named <= known
    shutil.copy(key, ingested.folder / "copy")
    names = pseudonyms.opened(key).names(ingested.ids.values())
    assert set(names) == set(ingested.ids.values())
