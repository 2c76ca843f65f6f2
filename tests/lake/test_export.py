"""What leaves the lake is what is in it, in the form that other programs read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import polars as pl
import pytest
import shapely
from shapely.geometry import shape
from support import TestLake, asap, write_slide

from lake import store
from lake.choices import Peaks
from lake.heatmap import probability_colors
from lake.lesions import detect


def features(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["features"]
    return found


def about(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["histolake"]
    return found


def refused(answer: Any, *words: str) -> None:
    assert answer.status == 1
    assert answer.err.count("\n") == 1
    for word in words:
        assert word in answer.err


def search(lake: TestLake, radius_um: float, min_probability: float) -> None:
    """Look for peaks, as `evaluate` does."""
    [model] = lake.read("models").to_dicts()
    peaks = Peaks(radius_um=radius_um, min_probability=min_probability)
    detect(lake.root, model, patch_set=model["patch_set"], peaks=peaks, run_id=store.new_run_id())


def test_annotations_go_to_geojson_and_come_back_the_same(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "s.tif")
    boxes = [
        ("Tumor", (10, 20, 300, 200)),
        ("_2", (50, 60, 30, 30)),
        ("None", (0, 0, 5, 5)),
        ("Exclusion", (1, 2, 3, 4)),
    ]
    bow = '<Annotation Name="bow" Type="Polygon" PartOfGroup="Tumor"><Coordinates>' + "".join(
        f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate([(0, 0), (9.25, 9), (9.25, 0), (0, 9)])
    )
    dot = '<Annotation Name="dot" Type="Dot" PartOfGroup="Tumor"><Coordinates><Coordinate Order="0" X="7.5" Y="8"/>'
    end = "</Coordinates></Annotation>"
    shapes = asap(boxes).replace("</Annotations>", f"{bow}{end}{dot}{end}</Annotations>")
    (tmp_path / "s.xml").write_text(shapes)
    lake.ok("ingest", str(tmp_path / "s.tif"), "--annotations", str(tmp_path / "s.xml"))
    told = lake.ok("export", "annotations", "--out", str(tmp_path / "out"), "--json").json()
    assert told == [{"slide_id": "s", "file": str(tmp_path / "out" / "s.geojson"), "objects": 6}]

    fresh = TestLake(tmp_path / "fresh")
    fresh.ok("ingest", str(tmp_path / "s.tif"), "--annotations", str(tmp_path / "out" / "s.geojson"))
    stored, back = (each.read("annotations").sort("annotation_id") for each in (lake, fresh))
    same = ("slide_id", "annotation_id", "group_name", "label", "is_exclusion")
    assert back.select(same).equals(stored.select(same))
    for before, after in zip(stored["geometry"], back["geometry"], strict=True):
        assert shapely.from_wkb(before).equals(shapely.from_wkb(after))
    written = {each["properties"]["name"]: each for each in features(tmp_path / "out" / "s.geojson")}
    assert written["bow"]["geometry"]["type"] == "MultiPolygon"
    assert "repaired" in written["bow"]["properties"]["metadata"]["note"]
    assert written["dot"]["geometry"] == {"type": "Point", "coordinates": [7.5, 8.0]}
    colors = {each["properties"]["classification"]["name"]: each["properties"]["classification"]["color"]
              for each in written.values() if "classification" in each["properties"]}  # fmt: skip
    assert colors["_2"] == colors["Exclusion"] != colors["Tumor"]
    assert "classification" not in written["Annotation 2"]["properties"]
    assert about(tmp_path / "out" / "s.geojson")["table_versions"] == {"annotations": lake.versions()["annotations"]}


def test_what_has_no_area_is_left_out_and_the_file_is_still_written(lake: TestLake, tmp_path: Path) -> None:
    (tmp_path / "s.xml").write_text(asap([("Tumor", (0, 0, 0, 0))]))
    write_slide(tmp_path / "s.tif", tumor=None)
    (tmp_path / "s.xml").write_text(asap([("Tumor", (0, 0, 0, 0))]))
    lake.ok("ingest", str(tmp_path / "s.tif"), "--annotations", str(tmp_path / "s.xml"))
    assert lake.ok("export", "annotations", "--out", str(tmp_path), "--json").json()[0]["objects"] == 0
    assert features(tmp_path / "s.geojson") == []


def test_every_prediction_is_a_tile_of_its_patch_with_its_probability_and_class(
    full_lake: TestLake, tmp_path: Path
) -> None:
    [model] = full_lake.read("models").to_dicts()
    found = full_lake.read("predictions")["probability"]
    threshold = float(found.min() + found.max()) / 2
    store.put(full_lake.root, "models", [{**model, "threshold": threshold}], "t")
    told = full_lake.ok("export", "predictions", "--slide", "tumor_*", "--out", str(tmp_path), "--json").json()
    assert [each["slide_id"] for each in told] == [f"tumor_{number}" for number in (1, 2, 3, 4)]
    rows = full_lake.read("predictions").filter(slide_id="tumor_4")
    tiles = features(tmp_path / "tumor_4.geojson")
    assert len(tiles) == rows.height == told[3]["objects"]
    expected = {(row["x"], row["y"]): row["probability"] for row in rows.to_dicts()}
    for tile in tiles:
        left, top, right, bottom = shape(tile["geometry"]).bounds
        probability = expected.pop((left, top))
        assert (right - left, bottom - top) == (64, 64)
        assert tile["properties"]["objectType"] == "tile"
        assert tile["properties"]["measurements"] == {"probability": probability}
        is_tumor = tile["properties"]["classification"]["name"] == "Tumor"
        assert is_tumor == (probability >= threshold)
    assert not expected
    names = {tile["properties"]["classification"]["name"] for tile in tiles}
    assert names == {"Tumor", "Normal"}
    where = about(tmp_path / "tumor_4.geojson")
    assert (where["model_id"], where["threshold"]) == (model["model_id"], threshold)
    assert where["slide_id"] == "tumor_4"
    assert where["notice"] == "Research use only. Not for diagnosis."
    assert where["table_versions"]["predictions"] == full_lake.versions()["predictions"]


def test_heatmap_writes_the_same_tiles_and_a_region_keeps_those_that_touch_it(
    full_lake: TestLake, tmp_path: Path
) -> None:
    full_lake.ok("export", "predictions", "--slide", "tumor_1", "--out", str(tmp_path / "a.geojson"))
    full_lake.ok("heatmap", "tumor_1", "--out", str(tmp_path / "new" / "b.geojson"))
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "new" / "b.geojson").read_bytes()
    full_lake.ok("heatmap", "tumor_1", "--out", str(tmp_path / "a.geojson"), "--region", "320,192,65,64")
    corners = sorted(shape(tile["geometry"]).bounds[:2] for tile in features(tmp_path / "a.geojson"))
    assert corners == [(320, 192), (384, 192)]


def test_openslide_opens_the_heatmap_at_the_slides_own_size_and_resolution(
    full_lake: TestLake, slides: Path, tmp_path: Path
) -> None:
    full_lake.ok("heatmap", "tumor_1", "--out", str(tmp_path / "h.tif"))
    tiles = full_lake.read("predictions").filter(slide_id="tumor_1")
    with openslide.OpenSlide(slides / "tumor_1.tif") as slide, openslide.OpenSlide(tmp_path / "h.tif") as heatmap:
        assert heatmap.dimensions == slide.dimensions
        for name in ("openslide.mpp-x", "openslide.mpp-y"):
            assert float(heatmap.properties[name]) == pytest.approx(float(slide.properties[name]), rel=1e-6)
        assert "Research use only. Not for diagnosis." in heatmap.properties["tiff.ImageDescription"]
        pixels = np.asarray(heatmap.read_region((0, 0), 0, heatmap.dimensions).convert("RGB"))
    expected = np.full_like(pixels, 255)
    for x, y, probability in tiles.select("x", "y", "probability").rows():
        expected[y : y + 64, x : x + 64] = probability_colors(np.array([probability]))[0]
    assert (pixels == expected).all()


def test_the_heatmaps_resolution_is_the_lakes_where_a_manifest_overrode_the_files(
    full_lake: TestLake, tmp_path: Path
) -> None:
    row = full_lake.read("slides").row(by_predicate=pl.col("slide_id") == "tumor_1", named=True)
    for mpp in ((0.5, 0.25), (None, None)):
        store.put(full_lake.root, "slides", [{**row, "mpp_x": mpp[0], "mpp_y": mpp[1]}], "t")
        full_lake.ok("heatmap", "tumor_1", "--out", str(tmp_path / "h.tif"))
        with openslide.OpenSlide(tmp_path / "h.tif") as heatmap:
            found = [heatmap.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        assert tuple(None if each is None else round(float(each), 6) for each in found) == mpp


def test_hotspots_are_camelyons_rows_highest_first_also_of_slides_without_any(
    full_lake: TestLake, tmp_path: Path
) -> None:
    search(full_lake, 100, 0.1)
    told = full_lake.ok(
        "export",
        "hotspots",
        "--detection-radius-um",
        "100",
        "--format",
        "csv",
        "--out",
        str(tmp_path / "froc"),
        "--json",
    ).json()
    assert {each["slide_id"]: each["objects"] for each in told}["normal_1"] == 0
    assert (tmp_path / "froc" / "normal_1.csv").read_bytes() == b""
    stored = full_lake.read("detections").filter(radius_um=100)
    for each in told:
        with Path(each["file"]).open(newline="") as file:
            rows = [(float(p), int(x), int(y)) for p, x, y in csv.reader(file)]  # as the official script reads them
        expected = stored.filter(slide_id=each["slide_id"]).select("probability", "x", "y").rows()
        assert sorted(rows) == sorted((p, int(x), int(y)) for p, x, y in expected)
        assert [p for p, _, _ in rows] == sorted((p for p, _, _ in rows), reverse=True)
    assert any(each["objects"] for each in told)
    one = (
        "export",
        "hotspots",
        "--slide",
        "tumor_4",
        "--detection-radius-um",
        "100",
        "--out",
        str(tmp_path / "one.csv"),
    )
    full_lake.ok(*one)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "froc" / "tumor_4.csv").read_bytes()
    refused(full_lake(*one, "--format", "geojson"), "one.csv", ".geojson")


def test_hotspots_are_points_that_qupath_lists_in_their_order(full_lake: TestLake, tmp_path: Path) -> None:
    search(full_lake, 100, 0.1)
    full_lake.ok("export", "hotspots", "--slide", "tumor_4", "--out", str(tmp_path / "x.geojson"))
    points = features(tmp_path / "x.geojson")
    stored = (
        full_lake.read("detections")
        .filter(slide_id="tumor_4", radius_um=100)
        .sort(["probability", "y", "x"], descending=[True, False, False])
    )
    assert [each["geometry"]["coordinates"] for each in points] == [list(row) for row in stored.select("x", "y").rows()]
    assert [each["properties"]["name"] for each in points] == [f"hotspot {n}" for n in range(1, len(points) + 1)]
    assert points[0]["properties"]["measurements"] == {"rank": 1, "probability": stored["probability"][0]}
    assert about(tmp_path / "x.geojson")["radius_um"] == 100


def test_hotspots_are_of_the_newest_search_or_of_the_one_asked_for(full_lake: TestLake, tmp_path: Path) -> None:
    search(full_lake, 100, 0.1)
    search(full_lake, 30, 0)
    search(full_lake, 30, 0.1)
    words = ("export", "hotspots", "--slide", "tumor_1", "--out", str(tmp_path), "--json")
    [newest], [asked] = full_lake.ok(*words).json(), full_lake.ok(*words, "--detection-radius-um", "100").json()
    found = full_lake.read("predictions").filter(pl.col("probability") >= 0.1, slide_id="tumor_1")
    assert newest["objects"] == found.height  # each patch is a peak within 30 microns, and none is there twice
    assert 0 < asked["objects"] < newest["objects"]
    refused(full_lake(*words, "--detection-radius-um", "7"), "detections", "evaluate")


def test_slide_scores_are_one_csv(full_lake: TestLake, tmp_path: Path) -> None:
    refused(full_lake("export", "scores", "--name", "luck", "--out", str(tmp_path / "s.csv")), "'luck'", "evaluate")
    full_lake.ok("export", "scores", "--out", str(tmp_path / "s.csv"))
    highest = full_lake.read("predictions").group_by("slide_id").agg(pl.col("probability").max()).sort("slide_id")
    written = pl.read_csv(tmp_path / "s.csv", has_header=False, new_columns=highest.columns)
    assert written.get_column("slide_id").to_list() == highest.get_column("slide_id").to_list()
    assert written["probability"].to_list() == pytest.approx(highest["probability"].to_list(), abs=1e-9)
    refused(full_lake("export", "scores", "--out", str(tmp_path / "folder")), ".csv")


def test_what_cannot_be_exported_is_refused(full_lake: TestLake, tmp_path: Path) -> None:
    out = str(tmp_path / "x.geojson")
    refused(full_lake("export", "annotations", "--slide", "nobody", "--out", out), "nobody", "annotations")
    refused(full_lake("export", "predictions", "--slide", "nobody", "--out", out), "nobody", "predict")
    refused(full_lake("export", "predictions", "--model", "none", "--out", out), "none")
    refused(full_lake("export", "hotspots", "--slide", "nobody", "--out", out), "nobody", "detections", "evaluate")
    refused(full_lake("export", "predictions", "--out", out), "6 slides", "folder")
    refused(full_lake("export", "predictions", "--out", str(tmp_path / "x.csv")), ".geojson")
    (tmp_path / "file").touch()
    refused(full_lake("export", "predictions", "--out", str(tmp_path / "file" / "deep")), "cannot be written")
    refused(full_lake("heatmap", "tumor_1", "--out", str(tmp_path / "x.jpeg")), "x.jpeg", ".png", ".geojson", ".tif")
    refused(full_lake("heatmap", "tumor_1", "--out", out, "--tint"), "--tint", ".png")
    refused(full_lake("heatmap", "nobody", "--out", str(tmp_path / "x.tif")), "nobody", "tumor_1")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_slide_id_that_leads_elsewhere_is_no_file_name(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "s.tif")
    (tmp_path / "m.csv").write_text("slide_id,path\n../up,s.tif\n")
    (tmp_path / "c.csv").write_text("../up,100,200\n")
    lake.ok("ingest", "--manifest", str(tmp_path / "m.csv"), "--coords-tumor", str(tmp_path / "c.csv"))
    refused(lake("export", "annotations", "--out", str(tmp_path / "out")), "../up", "--out")
    lake.ok("export", "annotations", "--out", str(tmp_path / "out.geojson"))
    [point] = features(tmp_path / "out.geojson")
    assert point["geometry"]["coordinates"] == [100, 200]
