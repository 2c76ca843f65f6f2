"""Annotations, manifests and lists of coordinates from strangers: refused in a sentence, other files unharmed."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest
from confined import confined_command
from support import Answer, TestLake, asap, refused, write_slide

from lake import ingest, pictures
from lake.compare import Comparison
from lake.manifest import read_manifest
from udfs.annotations import content
from udfs.errors import AnnotationError, HistolakeError

SOUND = asap([("Tumor", (10, 10, 50, 50))])
LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    + "]><ASAP_Annotations><Annotations>&a11;</Annotations></ASAP_Annotations>"
)
ENTITY = '<!DOCTYPE l [<!ENTITY x SYSTEM "file://SECRET">]><ASAP_Annotations><Annotations>&x;</Annotations></ASAP_Annotations>'
OUTSIDE = '<!DOCTYPE ASAP_Annotations SYSTEM "SECRET"><ASAP_Annotations/>'
PARAMETER = '<!DOCTYPE l [<!ENTITY % p SYSTEM "SECRET"> %p;]><ASAP_Annotations/>'


def feature(geometry: object, **more: object) -> str:
    return json.dumps({"type": "Feature", "geometry": geometry, "properties": {}, **more})


def ring(x: object) -> str:
    return feature({"type": "Polygon", "coordinates": [[[0, 0], [9, x], [9, 9]]]})


def corner(x: str) -> str:
    return SOUND.replace('X="10"', f'X="{x}"', 1)


HOSTILE: dict[str, tuple[str, str | bytes, str]] = {
    "billion laughs": (".xml", LAUGHS, "DTD or entities is refused"),
    "external entity": (".xml", ENTITY, "DTD or entities is refused"),
    "external DTD": (".xml", OUTSIDE, "DTD or entities is refused"),
    "parameter entity": (".xml", PARAMETER, "DTD or entities is refused"),
    "unknown encoding": (".xml", '<?xml version="1.0" encoding="rot13"?><ASAP_Annotations/>', "not well-formed"),
    "half of UTF-16": (".xml", SOUND.encode("utf-16")[:-1], "not well-formed"),
    "NUL": (".xml", SOUND.replace("Tumor", "Tu\0mor"), "not well-formed"),
    "root of several lines": (".xml", '<x xmlns="&#10;&#10;a"/>', "the root element is"),
    "long root": (".xml", f"<{'x' * 100_000}/>", "the root element is"),
    "corner NaN": (".xml", corner("nan"), "no slide can hold"),
    "corner infinite": (".xml", corner("inf"), "no slide can hold"),
    "corner 1e308": (".xml", corner("1e308"), "no slide can hold"),
    "corner beyond numbers": (".xml", corner("9" * 5000), "no slide can hold"),
    "corner of words": (".xml", corner("x" * 5000), "could not convert"),
    "type of many words": (".xml", SOUND.replace("Polygon", "x" * 5000), "has the Type"),
    "ring NaN": (".geojson", ring(float("nan")), "no slide can hold"),
    "ring infinite": (".geojson", ring(float("inf")), "no slide can hold"),
    "ring 1e308": (".geojson", ring(1e308), "no slide can hold"),
    "id is a list": (".geojson", feature(None, id=[1]), "no text"),
    "id is an object": (".geojson", feature(None, id={"a": 1}), "no text"),
    "name is a list": (".geojson", feature(None, properties={"name": [[]]}), "no text"),
    "half a character": (".geojson", '{"type":"Feature","geometry":null,"properties":{"name":"\\ud800"}}', "no text"),
    "half a class": (".geojson", '{"type":"Feature","properties":{"classification":"\\udfff"}}', "no text"),
    "type is a list": (".geojson", feature({"type": ["Polygon"], "coordinates": []}), "no GeoJSON geometry"),
    "no kind known": (".geojson", feature({"type": "x" * 5000, "coordinates": []}), "does not know"),
    "long name": (".geojson", feature(None, id="n" * 10_000), "longer than 1,000 characters"),
    "long group": (".xml", SOUND.replace("Tumor", "n" * 10_000), "longer than 1,000 characters"),
    "number without end": (".geojson", f"[{'9' * 10_000}]", "not well-formed JSON"),
    "UTF-16": (".geojson", "[]".encode("utf-16"), "not UTF-8 text"),
    "binary": (".json", bytes(range(256)), "not UTF-8 text"),
    "compressed": (".json", gzip.compress(b"[]"), "not UTF-8 text"),
    "name of numbers": (".json", '{"positive": [{"name": {"a": 1}, "vertices": []}]}', "no text"),
}


def test_hostile_annotations_are_failed_rows_in_a_sentence_each_beside_a_sound_one(
    lake: TestLake, tmp_path: Path
) -> None:
    secret, folder = tmp_path / "secret.txt", tmp_path / "annotations"
    secret.write_text("the secret")
    folder.mkdir()
    for kind, (ending, text, _) in HOSTILE.items():
        path = folder / f"{kind}{ending}"
        path.write_bytes(text if isinstance(text, bytes) else text.replace("SECRET", str(secret), 1).encode())
    (folder / "good.xml").write_text(SOUND)
    answer = lake("ingest", "--annotations", str(folder))
    assert answer.status == 1
    assert "Traceback" not in answer.err
    ledger = {row["slide_id"]: row for row in lake.read("runs").filter(stage="annotations").to_dicts()}
    for kind, (ending, _, reason) in HOSTILE.items():
        said = ledger[kind]["error"]
        assert (ledger[kind]["status"], ledger[kind]["rows"]) == ("failed", 0), kind
        assert said.startswith(f"{folder / kind}{ending}: "), said
        assert reason in said, said
        assert len(said) < 600, kind
        assert "\n" not in said, kind
        assert f"failed: annotations of {kind}: {said}\n" in answer.err
    assert (ledger["good"]["status"], ledger["good"]["rows"]) == ("ok", 1)
    assert lake.read("annotations")["slide_id"].to_list() == ["good"]
    assert "the secret" not in answer.err + str(ledger)


def test_rings_without_area_and_points_twice_are_kept_and_said_to_be(lake: TestLake, tmp_path: Path) -> None:
    rings = {
        "empty": [],
        "point": [[1, 1]] * 9,
        "line": [[0, 0], [5, 5], [0, 0], [5, 5]],
        "twice": [[0, 0], [0, 0], [9, 0], [9, 0], [9, 9], [9, 9]],
        "bow": [[0, 0], [9, 9], [9, 0], [0, 9]],
        "speck": [[1e-300, 0], [0, 1e-300], [1e-300, 1e-300]],
        "far": [[-9e8, -9e8], [9e8, -9e8], [9e8, 9e8]],
    }
    positive = [{"name": name, "vertices": corners} for name, corners in rings.items()]
    (tmp_path / "one.json").write_text(json.dumps({"positive": positive}))
    lake.ok("ingest", "--annotations", str(tmp_path / "one.json"))
    notes = dict(lake.read("annotations").select("annotation_id", "note").rows())
    assert notes["empty"] == notes["point"] == notes["line"] == "has fewer than three vertices: ignored"
    assert notes["twice"] is notes["far"] is None
    assert notes["bow"].startswith("repaired: Self-intersection")
    lake.ok("check")


def test_devices_pipes_and_folders_are_not_read(lake: TestLake, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    refused(lake("ingest", "--annotations", str(tmp_path / "pipe.xml")), str(tmp_path / "pipe.xml"), "not a file")
    os.mkfifo(tmp_path / "pipe.csv")
    before = lake.versions()
    for path in (tmp_path / "pipe.csv", Path("/dev/zero"), tmp_path):
        refused(lake("ingest", "--manifest", str(path)), str(path), "not a file")
        refused(lake("ingest", "--coords-tumor", str(path)), str(path), "no such coordinate list")
    assert lake.versions() == before


def test_an_annotation_file_that_is_too_large_is_not_read(lake: TestLake, tmp_path: Path) -> None:
    (tmp_path / "large.geojson").touch()
    os.truncate(tmp_path / "large.geojson", content.LARGEST + 1)
    answer = lake("ingest", "--annotations", str(tmp_path / "large.geojson"))
    refused(answer, "large.geojson", "256 MB", "without cells and detections")


def zigzag(count: int) -> str:
    """A ring that crosses itself in some count²/4 places."""
    corners = [[number * 1000 // count, number % 2 * 1000] for number in range(count)]
    across = [[number % 2 * 1000, number * 1000 // count] for number in range(count)]
    return feature({"type": "Polygon", "coordinates": [corners + across]})


BOMBS: dict[str, Callable[[], str]] = {
    "nested lists": lambda: "[" * 50_000_000 + "]" * 50_000_000,
    "nested objects": lambda: '{"type":' * 12_500_000,
    "empty lists": lambda: "[" + "[]," * 33_000_000 + "[]]",
    "nested geometries": lambda: feature(None).replace(
        "null", '{"type":"GeometryCollection","geometries":[' * 2_000_000
    ),
    "many corners": lambda: feature({"type": "Point", "coordinates": []}).replace(
        "[]", "[" + "0.1," * 25_000_000 + "0]"
    ),
    "one text": lambda: feature(None, id="x" * 100_000_000),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", BOMBS)
def test_a_hundred_megabytes_of_geojson_end_in_a_sentence_within_bounds(
    kind: str, lake: TestLake, tmp_path: Path
) -> None:
    (tmp_path / "bomb.geojson").write_text(BOMBS[kind]())
    (tmp_path / "good.xml").write_text(SOUND)
    words = ("ingest", "--annotations", str(tmp_path / "*.geojson"), "--annotations", str(tmp_path / "good.xml"))
    answer = confined_command(*words, "--lake", str(lake.root))
    harmless = kind == "many corners"
    _ended(answer, lake, "bomb", harmless=harmless)


XML_BOMBS: dict[str, Callable[[], str]] = {
    "nested elements": lambda: "<a>" * 14_000_000 + "</a>" * 14_000_000,
    "many elements": lambda: "<ASAP_Annotations>" + "<a/>" * 25_000_000 + "</ASAP_Annotations>",
    "one attribute": lambda: f'<ASAP_Annotations a="{"x" * 100_000_000}"/>',
    "one comment": lambda: f"<ASAP_Annotations><!--{'x' * 100_000_000}--></ASAP_Annotations>",
    "many attributes": lambda: "<ASAP_Annotations " + " ".join(f'a{i}=""' for i in range(5_000_000)) + "/>",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", XML_BOMBS)
def test_a_hundred_megabytes_of_xml_end_in_a_sentence_within_bounds(kind: str, lake: TestLake, tmp_path: Path) -> None:
    (tmp_path / "bomb.xml").write_text(XML_BOMBS[kind]())
    (tmp_path / "good.xml").write_text(SOUND)
    answer = confined_command("ingest", "--annotations", str(tmp_path / "*.xml"), "--lake", str(lake.root))
    _ended(answer, lake, "bomb", harmless=kind != "nested elements")


def _ended(answer: Answer, lake: TestLake, slide_id: str, *, harmless: bool) -> None:
    """Either the bomb is a failed row, in a sentence, or it was read as what it is; the good file is there."""
    assert "Traceback" not in answer.err
    status = dict(lake.read("runs").filter(stage="annotations").select("slide_id", "status").rows())
    assert status["good"] == "ok"
    assert status[slide_id] in ({"failed", "empty", "ok"} if harmless else {"failed"})
    assert answer.status == (1 if status[slide_id] == "failed" else 0), answer.err
    if status[slide_id] == "failed":
        refused(answer, slide_id)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_outline_that_crosses_itself_everywhere_ends_within_bounds(lake: TestLake, tmp_path: Path) -> None:
    (tmp_path / "bow.geojson").write_text(zigzag(100_000))
    (tmp_path / "good.xml").write_text(SOUND)
    words = ("ingest", "--annotations", str(tmp_path / "*.geojson"), "--annotations", str(tmp_path / "good.xml"))
    answer = confined_command(*words, "--lake", str(lake.root))
    refused(answer, "bow.geojson", "crosses itself all over", "draw it again")
    assert lake.read("annotations")["slide_id"].to_list() == ["good"]


def bars(count: int, *, flat: bool) -> list[str]:
    """Features of thin rectangles that lie flat, or stand, across all of those that do not."""
    boxes = [(0, 10 * number, 10 * count, 10 * number + 1) for number in range(count)]
    rings = [[[x, y], [right, y], [right, low], [x, low]] for x, y, right, low in boxes]
    named = {"classification": {"name": "Tumor"}}
    return [
        feature({"type": "Polygon", "coordinates": [ring if flat else [[y, x] for x, y in ring]]}, properties=named)
        for ring in rings
    ]


@pytest.mark.slow
def test_annotations_that_cross_each_other_everywhere_fail_alone(full_lake: TestLake, tmp_path: Path) -> None:
    """Each is a sound rectangle. Within a file that is told at once, between two as soon as they are united."""
    flat, standing = bars(600, flat=True), bars(600, flat=False)
    (tmp_path / "tumor_1.geojson").write_text(f"[{','.join(flat + standing)}]")
    refused(full_lake("ingest", "--annotations", str(tmp_path)), "tumor_1.geojson", "cross each other all over")
    (tmp_path / "tumor_1.geojson").write_text(f"[{','.join(flat)}]")
    (tmp_path / "tumor_1.tif.geojson").write_text(f"[{','.join(standing)}]")
    full_lake.ok("ingest", "--annotations", str(tmp_path))
    before = full_lake.read("labels").filter(pl.col("slide_id") != "tumor_1")
    refused(full_lake("run", *full_lake.tiling), "tumor_1", "cross each other all over; draw them again")
    assert full_lake.read("labels").filter(pl.col("slide_id") != "tumor_1").equals(before)
    refused(full_lake("evaluate"), "cross each other all over; draw them again", "which slide's")


MANIFESTS: dict[str, tuple[bytes, str]] = {
    "compressed": (gzip.compress(b"slide_id\n" * 10_000_000), "no UTF-8 text"),
    "deflated": (b"x\x01" + b"\x00" * 10, "bytes that are no text"),
    "UTF-16": ("slide_id\none\n".encode("utf-16"), "no UTF-8 text"),
    "NUL": (b"slide_id\no\0ne\n", "bytes that are no text"),
    "binary": (bytes(range(256)), "no UTF-8 text"),
    "empty": (b"", "cannot be read"),
    "no rows of a column": (b"slide_id,slide_id\none,two\n", "is another"),
    "unknown column": (b"slide_id,surname\none,Smith\n", "is another"),
    "one long line": (b"x" * 50_000_000, "is another"),
    "many columns": (b"a," * 100_000, "is another"),
    "torn quote": (b'slide_id,path\n"one,one.tif\n', "manifest"),
    "more fields": (b"slide_id\none,two,three\n", "cannot be read"),
    "formula": (b"slide_id,path\n\"=cmd|' /C calc'!A0\",one.tif\n", "is a formula"),
    "formula of a patient": (b'path,patient_id\none.tif,"@SUM(1+1)"\n', "is a formula"),
    "formula of a label": (b"path,label\none.tif,+1+1\n", "is a formula"),
    "long split": (b"slide_id,split\none," + b"x" * 10_000_000 + b"\n", "must be one of"),
    "mpp of words": (b"slide_id,mpp\none," + b"x" * 10_000_000 + b"\n", "mpp must be a number"),
    "address without host": (b"path\nhttps:///a.tif\n", "names no host"),
    "address in brackets": (b"path\nhttp://[a.tif\n", "not an address"),
    "address of elsewhere": (b"path\nfile:///etc/passwd\n", "copy these to one of them"),
    "address with a secret": (b"path\nhttps://me:secret@host/a.tif\n", "carries a user"),  # pragma: allowlist secret
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_hostile_manifest_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    text, reason = MANIFESTS[kind]
    path = tmp_path / "manifest.csv"
    path.write_bytes(text)
    with pytest.raises(HistolakeError, match=re.escape(reason)) as refusal:
        read_manifest(path, lambda address: ingest.find_addresses([address])[0])
    said = str(refusal.value)
    assert len(said) < 600
    assert "\n" not in said
    assert "secret" not in said


@pytest.mark.parametrize("kind", ["compressed", "formula"])
def test_after_a_hostile_manifest_the_lake_is_as_it_was(kind: str, lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif")
    (tmp_path / "manifest.csv").write_bytes(MANIFESTS[kind][0])
    before = lake.versions()
    answer = lake("ingest", str(tmp_path / "one.tif"), "--manifest", str(tmp_path / "manifest.csv"))
    refused(answer, str(tmp_path / "manifest.csv"), MANIFESTS[kind][1])
    assert lake.versions() == before


def test_a_manifest_with_a_byte_order_mark_and_odd_names_is_read(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one [1].tif")
    rows = "slide_id,path\n../../😀,one [1].tif\n"
    (tmp_path / "manifest [1].csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    lake.ok("ingest", "--manifest", str(tmp_path / "manifest [1].csv"))
    assert lake.read("slides")["slide_id"].to_list() == ["../../😀"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b"])
def test_no_picture_of_a_slide_is_written_outside_the_folder_that_was_named(name: str, tmp_path: Path) -> None:
    """A manifest may call a slide what it likes."""
    row = {"model_id": "m"}
    nothing = Comparison(row, row, "grid", pl.DataFrame(), [], pl.DataFrame())
    with pytest.raises(HistolakeError, match="no file can have this name"):
        pictures.write_differences(tmp_path / "lake", nothing, tmp_path / "out", [name])
    assert not list(tmp_path.iterdir())


COORDINATES: dict[str, bytes] = {
    "compressed": gzip.compress(b"one,1,2\n" * 1_000_000),
    "UTF-16": "one,1,2\n".encode("utf-16"),
    "binary": bytes(range(256)),
    "NUL": b"one,\0,2\n",
    "one long line": b"x" * 50_000_000,
    "a long field": b"x" * 50_000_000 + b",1,2\n",
    "NaN": b"one,nan,2\n",
    "infinite": b"one,1,-inf\n",
    "1e308": b"one,1e308,2\n",
    "nothing": b"one,,2\n",
    "no slide": b",1,2\n",
}


@pytest.mark.parametrize("kind", COORDINATES)
def test_a_hostile_list_of_coordinates_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("centres.csv.gz" if kind == "compressed" else "centres.csv")
    path.write_bytes(COORDINATES[kind])
    with duckdb.connect() as con, pytest.raises(AnnotationError, match=re.escape(path.name)) as refusal:
        ingest.read_coordinates(con, ingest.Sources(coords_normal=[path]))
    assert len(str(refusal.value)) < 600
    assert "\n" not in str(refusal.value)


def test_a_list_of_coordinates_may_have_any_name_and_a_byte_order_mark(lake: TestLake, tmp_path: Path) -> None:
    (tmp_path / "a[1]*?.csv").write_bytes(b"\xef\xbb\xbfone,1,2\n")
    lake.ok("ingest", "--coords-tumor", str(tmp_path / "a[1]*?.csv"))
    assert lake.read("annotations").select("slide_id", "annotation_id").rows() == [("one", "1.0,2.0")]


OPTIONS = [
    *(["--region", region] for region in ("nan,nan,nan,nan", "0,0,inf,5", "1e308,0,1e308,1e308", "1,2,3,4,5")),
    *(["--mpp", mpp] for mpp in ("nan", "0", "inf")),
    *(["--patch-px", px] for px in ("0", "2000000000")),
    *(["--stride-px", px] for px in ("99999999999999999999", "0")),
    *(["--min-tissue", "nan"], ["--tissue-od", "nan"], ["--tissue-od", "-1"]),
    *(["--label-rule", rule] for rule in ("covered>=nan", "'; drop table slides; --")),
]


def test_options_that_make_no_sense_are_refused_and_nothing_is_written(full_lake: TestLake) -> None:
    before = full_lake.versions()
    for words in OPTIONS:
        refused(full_lake("run", "--encoder", "tiny", *words), words[0])
    assert full_lake.versions() == before
