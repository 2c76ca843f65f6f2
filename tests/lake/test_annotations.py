"""Annotation files on their way into the lake, the real ones included, and what changed between versions."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import shapely
from support import SHARED, TestLake, asap, write_slide

from lake import session, store
from udfs.geometry import area_of, differing_area

REAL = SHARED / "data" / "annotations"


def shoelace(ring: list[list[float]]) -> float:
    """The area inside a ring that does not cross itself."""
    following = [*ring[1:], ring[0]]
    return abs(sum(x * b - a * y for (x, y), (a, b) in zip(ring, following, strict=True))) / 2


def test_the_real_ncrf_annotations_load_whole_without_their_slides(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the real annotations are not here: ../shared/data/annotations is needed")
    lists = {"tumor": REAL / "ncrf_coords/tumor_valid.txt", "normal": REAL / "ncrf_coords/normal_valid.txt"}
    lake = TestLake(tmp_path / "lake")
    lake.ok(
        *("ingest", "--annotations", str(REAL / "ncrf_json")),
        *("--coords-tumor", str(lists["tumor"]), "--coords-normal", str(lists["normal"])),
    )
    rows = lake.read("annotations")

    centres = rows.filter(format="ncrf_csv")
    listed = {name: [tuple(row) for row in csv.reader(file.open())] for name, file in lists.items()}
    assert {name: len(found) for name, found in listed.items()} == {"tumor": 20_000, "normal": 20_000}
    for name, label in (("tumor", 1), ("normal", 0)):
        found = centres.filter(label=label)
        places = shapely.from_wkb(found["geometry"].to_list())
        stored = zip(found["slide_id"], shapely.get_x(places), shapely.get_y(places), strict=True)
        assert set(stored) == {(slide, float(x), float(y)) for slide, x, y in listed[name]}
    assert centres.height == sum(len(set(found)) for found in listed.values())

    files = sorted((REAL / "ncrf_json").glob("*.json"))
    assert len(files) == 29
    for file in files:
        content = json.loads(file.read_text())
        own = rows.filter(slide_id=file.stem, format="ncrf_json")
        assert Counter(own["group_name"]) == Counter({f"ncrf_{kind}": len(each) for kind, each in content.items()})
        rings = {kind: [polygon["vertices"] for polygon in polygons] for kind, polygons in content.items()}
        for kind, label, is_exclusion in (("positive", 1, False), ("negative", 0, True)):
            group = own.filter(group_name=f"ncrf_{kind}")
            assert set(zip(group["label"], group["is_exclusion"], strict=True)) <= {(label, is_exclusion)}
            sound = [ring for ring in rings[kind] if len(ring) > 2 and shapely.is_valid(shapely.Polygon(ring))]
            areas = shapely.area(shapely.from_wkb(group.filter(pl.col("note").is_null())["geometry"].to_list()))
            assert sorted(areas) == pytest.approx(sorted(map(shoelace, sound)), rel=1e-9)
            mended = group.filter(pl.col("note").is_not_null())
            assert mended.height == len(rings[kind]) - len(sound)
            assert all(note.startswith("repaired: ") or note.endswith(": ignored") for note in mended["note"])
            assert shapely.is_valid(shapely.from_wkb(mended["geometry"].to_list())).all()
    assert rows.filter(pl.col("note").str.starts_with("repaired: ")).height > 0


def test_a_file_belongs_to_the_slide_that_it_is_named_like(lake: TestLake, tmp_path: Path) -> None:
    tumor = {"type": "Polygon", "coordinates": [[[256, 128], [320, 128], [320, 256], [256, 256], [256, 128]]]}
    feature = {"type": "Feature", "geometry": tumor, "properties": {"classification": {"name": "Tumor"}}}
    (tmp_path / "drawn").mkdir()
    for name in ("one.geojson", "two.tif.geojson", "odd.svs.json"):
        (tmp_path / "drawn" / name).write_text(json.dumps([feature]))
    write_slide(tmp_path / "odd.svs.tif", tissue=(256, 128, 256, 128))
    lake.ok("ingest", str(tmp_path / "odd.svs.tif"), "--annotations", str(tmp_path / "drawn"))
    assert sorted(lake.read("annotations")["slide_id"]) == ["odd.svs", "one", "two"]
    lake.ok("run", *lake.tiling[:4], "--stage", "patches", "--stage", "labels")
    assert set(lake.read("labels").filter(label=1)["x"]) == {256}


def test_two_files_of_one_name_for_one_slide_are_refused(lake: TestLake, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.xml").write_text(asap([]))
    before = lake.versions()
    answer = lake("ingest", "--annotations", str(tmp_path / "a"), "--annotations", str(tmp_path / "b"))
    assert answer.status == 1
    assert "two annotation files are called 'one.xml'" in answer.err
    assert lake.versions() == before


@pytest.mark.slow
def test_the_differences_of_two_versions_are_shapes_labels_and_metrics(
    full_lake: TestLake, slides: Path, tmp_path: Path
) -> None:
    lake = TestLake(Path(shutil.copytree(full_lake.root, tmp_path / "copy")))  # MLflow holds the original's file open
    (slides / "tumor_1.xml").write_text(
        asap([("Tumor", (320, 192, 192, 256)), ("Tumor", (256, 512, 64, 128))])  # the tumor grown, and another one
    )
    lake.ok("ingest", "--annotations", str(slides / "tumor_1.xml"))
    newest = lake.versions()["annotations"]
    waiting = lake.ok("diff", "annotations")
    assert "not labelled anew: tumor_1" in waiting.err
    assert "no model was trained after" in waiting.err
    lake.ok("run", *lake.tiling, "--stage", "labels")
    lake.ok("train", "--encoder", "tiny")
    lake.ok("predict")
    lake.ok("evaluate")
    (slides / "tumor_2.xml").write_text(asap([]))  # a later change that is none of this
    lake.ok("ingest", "--annotations", str(slides / "tumor_2.xml"))
    found = lake.ok("diff", "annotations", "--from", str(newest - 1), "--to", str(newest), "--json").json()
    shapes = [
        (row["annotation_id"], row["change"], row["before_px"], row["after_px"], row["differing_mm2"])
        for row in found["shapes"]
    ]
    assert shapes == [
        ("Annotation 0", "changed", 128 * 256, 192 * 256, pytest.approx(64 * 256 / 1e6)),
        ("Annotation 1", "added", None, 64 * 128, pytest.approx(64 * 128 / 1e6)),
    ]
    assert [(row["slide_id"], row["to_tumor"], row["to_normal"]) for row in found["patches"]] == [("tumor_1", 6, 0)]
    models = {
        row["model_id"]: json.loads(row["table_versions"])["annotations"] for row in lake.read("models").to_dicts()
    }
    before, after = found["models"]
    assert (models[before], models[after]) == (newest - 1, newest)
    values = {
        (row["model_id"], row["protocol"], row["split"], row["scope"], row["name"]): row["value"]
        for row in lake.read("metrics").to_dicts()
    }
    assert found["metrics"]
    for row in found["metrics"]:
        key = (row["protocol"], row["split"], row["scope"], row["name"])
        assert row["value_before"] == values.get((before, *key))
        assert row["value_after"] == values[(after, *key)]


def test_versions_that_are_not_there_are_refused(lake: TestLake) -> None:
    for words in ((), ("--from", "2", "--to", "1"), ("--to", "7")):
        answer = lake("diff", "annotations", *words)
        assert answer.status == 1
        assert "must be two versions from 0 to 0, the older first" in answer.err


def test_a_group_that_is_unknown_is_named_until_it_has_a_meaning(lake: TestLake, tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text(asap([("Carcinoma", (0, 0, 9, 9))]))
    lake.ok("ingest", "--annotations", str(tmp_path / "one.xml"))
    [unknown] = [row for row in lake.ok("groups", "list", "--json").json() if row["meaning"] is None]
    assert unknown == {"group_name": "carcinoma", "meaning": None, "annotations": 1, "slides": 1}
    lake.ok("groups", "set", " Carcinoma", "tumor")
    assert lake.read("annotations").select("group_name", "label", "is_exclusion").rows() == [("Carcinoma", 1, False)]
    before = lake.versions()
    lake.ok("groups", "set", "CARCINOMA", "tumor")
    lake.ok("ingest", "--annotations", str(tmp_path / "one.xml"))
    assert lake.versions() == before
    assert "empty" in lake("groups", "set", " ", "tumor").err
    assert lake("groups", "set", "Carcinoma", "tumour").status == 2
    assert store.rows(lake.root, "annotation_groups").filter(group_name="carcinoma").height == 1


def test_areas_of_geometries() -> None:
    import pyarrow as pa

    square, line = shapely.to_wkb(shapely.box(0, 0, 4, 4)), shapely.to_wkb(shapely.LineString([(0, 0), (1, 1)]))
    other = shapely.to_wkb(shapely.box(2, 0, 6, 4))
    assert area_of(pa.array([square, line, None], pa.binary())).to_pylist() == [16, 0, None]
    first, second = pa.array([square, square, None, None, line]), pa.array([other, None, other, None, square])
    assert differing_area(first, second).to_pylist() == [16, 16, 16, None, 16]


def test_one_state_of_the_annotations_has_one_hash(lake: TestLake, tmp_path: Path) -> None:
    """Whatever order DuckDB's threads come upon the groups of a file in: else labels were lost, and made again."""
    for number in range(24):
        boxes = [(f"group {number} {each}", (0, 0, 10, 10)) for each in range(4)]
        (tmp_path / f"slide_{number}.xml").write_text(asap([("Tumor", (0, 0, 50, 50)), *boxes]))
    for digit in range(0, 10, 2):  # several files of the table, which threads read side by side
        lake.ok("ingest", "--annotations", str(tmp_path / f"slide_*[{digit}{digit + 1}].xml"))
    with session.connect(lake.root, udfs=()) as con:
        given = {tuple(con.sql("from annotated_slides").fetchall()) for _ in range(20)}
    assert len(given) == 1
