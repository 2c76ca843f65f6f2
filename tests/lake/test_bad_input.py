"""Bad input gets one line that names the file and the remedy, exit status 1, and leaves nothing behind."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import tifffile
from support import SHARED, TestLake, refused, run_command, write_slide

from lake import store
from lake.tables import TABLES


def test_no_slide_matches(lake: TestLake, tmp_path: Path) -> None:
    before = lake.versions()
    refused(lake("ingest", str(tmp_path / "*.svs")), str(tmp_path / "*.svs"), "no slide matches", ".svs")
    assert lake.versions() == before


def test_what_is_no_file_fails_alone(lake: TestLake, tmp_path: Path) -> None:
    """Named as a shell names all that ends in .tif, and found in a folder."""
    write_slide(tmp_path / "a.tif")
    (tmp_path / "broken.tif").symlink_to(tmp_path / "nothing.tif")
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    answer = lake("ingest", *map(str, sorted(tmp_path.glob("*.tif"))))
    assert answer.status == 1
    slides = lake.read("slides").sort("slide_id")
    assert slides.select("slide_id", "status").rows() == [
        ("a", "ok"),
        *((name, "failed") for name in ("broken", "folder", "loop", "pipe")),
    ]
    assert all(str(tmp_path) in error for error in slides["error"].drop_nulls())
    assert lake("ingest", str(tmp_path), "--retry-failed").err.count("failed: ") == 3  # a folder is looked into


def test_a_name_that_is_no_text_fails_alone(lake: TestLake, tmp_path: Path) -> None:
    for ending in ("tif", "xml"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9." + ending.encode())).touch()
    write_slide(tmp_path / "a.tif")
    answer = lake("ingest", str(tmp_path), "--annotations", str(tmp_path))
    assert answer.status == 1
    assert "Traceback" not in answer.err
    assert dict(lake.read("slides").select("slide_id", "status").rows()) == {"a": "ok", "caf\\xe9": "failed"}
    ledger = lake.read("runs").filter(stage="annotations").sort("slide_id")
    assert ledger.select("slide_id", "status").rows() == [("a", "empty"), ("caf\\xe9", "failed")]


def test_a_pattern_of_run_matches_no_slide(full_lake: TestLake) -> None:
    refused(full_lake("run", "--slide", "tumour_*"), "tumour_*", "no slide matches", "normal_1")


def test_two_slides_with_one_id(lake: TestLake, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_slide(tmp_path / folder / "same.tif")
    before = lake.versions()
    answer = lake("ingest", str(tmp_path / "a"), str(tmp_path / "b"))
    refused(answer, "'same'", str(tmp_path / "a" / "same.tif"), str(tmp_path / "b" / "same.tif"), "rename one")
    assert lake.versions() == before
    lake.ok("ingest", str(tmp_path / "a"))
    refused(lake("ingest", str(tmp_path / "b")), "'same'", str(tmp_path / "a" / "same.tif"), "rename one")
    (tmp_path / "a" / "same.tif").unlink()
    lake.ok("ingest", str(tmp_path / "b"))
    assert lake.read("slides")["path"].to_list() == [str(tmp_path / "b" / "same.tif")]


def test_malformed_annotations(lake: TestLake, tmp_path: Path) -> None:
    """What is wrong with a file, and what is refused in one, is in udfs/test_annotations.py."""
    (tmp_path / "bad.xml").write_text("<ASAP_Annotations><Annotations>")
    (tmp_path / "good.xml").write_text("<ASAP_Annotations><Annotations/></ASAP_Annotations>")
    answer = lake("ingest", "--annotations", str(tmp_path / "*.xml"))
    refused(answer, "bad", str(tmp_path / "bad.xml"), "not well-formed", "export it again")
    ledger = lake.read("runs").filter(stage="annotations").sort("slide_id").select("slide_id", "status").rows()
    assert ledger == [("bad", "failed"), ("good", "empty")]
    assert lake.read("annotations").is_empty()


@pytest.mark.parametrize("rows", ["one,1\n", "one,a,b\n", "slide,x,y\none,1,2\n", "one,1,2,3\n"])
def test_coordinates_with_other_columns(lake: TestLake, tmp_path: Path, rows: str) -> None:
    (tmp_path / "coords.csv").write_text(rows)
    before = lake.versions()
    refused(lake("ingest", "--coords-tumor", str(tmp_path / "coords.csv")), str(tmp_path / "coords.csv"), "slide,x,y")
    assert lake.versions() == before


def test_a_list_of_coordinates_with_a_name_that_no_file_can_have(lake: TestLake, tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 300))
    refused(lake("ingest", "--coords-tumor", path), path, "no such coordinate list")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slide,mpp\none,0.5\n", ("slide_id", "path")),
        ("slide_id,mpp\none,half\n", ("mpp must be a number",)),
        ("slide_id,split\none,training\n", ("the split of row 1", "train, validation, test")),
        ("slide_id\nmissing\n", ("'missing'", "no slide file")),
        ("slide_id,split\none,train\none,test\n", ("'one'", "several rows")),
        ("slide_id,path,split\none,,train\none,one.tif,test\n", ("'one'", "several rows")),
        ("slide_id,path,split\none,one.tif,train\nother,one.tif,test\n", ("'one'", "several rows")),
        ("slide_id,path,split\none,one.tif,train\none,zone.tif,test\n", ("'one'", "zone.tif", "rename one")),
    ],
)
def test_a_manifest_that_makes_no_sense(lake: TestLake, tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    write_slide(tmp_path / "one.tif")
    (tmp_path / "manifest.csv").write_text(text)
    before = lake.versions()
    refused(lake("ingest", str(tmp_path / "one.tif"), "--manifest", str(tmp_path / "manifest.csv")), "manifest", *words)
    assert lake.versions() == before


@pytest.mark.parametrize("mpp", ["0", "-1", "1000", "nan"])
def test_an_absurd_resolution_in_the_manifest(lake: TestLake, tmp_path: Path, mpp: str) -> None:
    write_slide(tmp_path / "one.tif")
    (tmp_path / "manifest.csv").write_text(f"slide_id,mpp\none,{mpp}\n")
    answer = lake("ingest", str(tmp_path / "one.tif"), "--manifest", str(tmp_path / "manifest.csv"))
    refused(answer, "one.tif", "microns per pixel", "manifest")
    assert lake.read("slides").select("slide_id", "status").rows() == [("one", "failed")]


def test_a_slide_without_resolution_and_the_remedy(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif", mpp=350)
    refused(lake("ingest", str(tmp_path / "one.tif")), "one.tif", "no plausible resolution", "manifest")
    (tmp_path / "manifest.csv").write_text("slide_id,mpp\none,1\n")
    lake.ok("ingest", str(tmp_path / "one.tif"), "--manifest", str(tmp_path / "manifest.csv"))
    assert lake.read("slides").select("status", "mpp_x", "mpp_source").rows() == [("ok", 1.0, "manifest")]


def test_a_patch_larger_than_the_slide(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif")
    lake.ok("ingest", str(tmp_path / "one.tif"))
    refused(
        lake("run", "--patch-px", "800", "--mpp", "1", "--encoder", "tiny"),
        "one.tif",
        "larger than the slide",
        "--patch-px",
    )


def test_an_mpp_finer_than_the_slides_own(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif")
    lake.ok("ingest", str(tmp_path / "one.tif"))
    refused(
        lake("run", "--patch-px", "64", "--mpp", "0.94", "--encoder", "tiny"), "one.tif", "finer", "--allow-upsampling"
    )
    lake.ok("run", "--patch-px", "64", "--mpp", "0.96", "--encoder", "tiny")


def test_an_encoder_file_that_is_not_onnx(lake: TestLake, tmp_path: Path) -> None:
    (tmp_path / "weights.onnx").write_bytes(b"not a network")
    before = lake.versions()
    refused(
        lake("encoders", "add", "mine", "--onnx", str(tmp_path / "weights.onnx")),
        str(tmp_path / "weights.onnx"),
        "ONNX",
    )
    assert lake.versions() == before


def test_an_unknown_encoder(full_lake: TestLake) -> None:
    refused(full_lake("run", "--encoder", "resnet"), "resnet", "efficientnet_lite0", "encoders add")


def test_embeddings_of_another_length(full_lake: TestLake) -> None:
    features = full_lake.read("features")
    wrong = features.with_columns(embedding=pl.lit([0.0, 1.0], pl.List(pl.Float32)), patch_set=pl.lit("other"))
    tiling = full_lake.read("patch_sets").with_columns(patch_set=pl.lit("other"))
    store.put(full_lake.root, "patch_sets", tiling.to_dicts(), "test")
    row = wrong.to_dicts()[0]
    identity = {"patch_set": "other", "encoder_id": row["encoder_id"]}
    unit = {name: row[name] for name in ("slide_id", "part", "fingerprint")}
    done = replace(store.entry("features", run_id="test", rows=1, identity=identity), **unit)
    rows = pa.Table.from_pylist([row], schema=TABLES["features"].schema)
    store.replace(full_lake.root, "features", rows, [], [done])
    assert full_lake("check").status == 1
    refused(full_lake("predict"), "takes embeddings of 6 numbers", "2")


def test_training_with_one_class(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "normal.tif")
    lake.ok("ingest", str(tmp_path), "--annotations", str(tmp_path), "--split", "train")
    lake.ok("run", *lake.tiling)
    refused(lake("train", "--encoder", "tiny"), "64 labelled training patches are normal", "ingest")
    assert lake.read("models").is_empty()


def test_training_without_labels_or_features(lake: TestLake, tmp_path: Path) -> None:
    refused(lake("train"), "no features", "histolake run")
    write_slide(tmp_path / "normal.tif")
    lake.ok("ingest", str(tmp_path / "normal.tif"), "--split", "train")
    lake.ok("run", *lake.tiling)
    refused(lake("train", "--encoder", "tiny"), "no labelled patch", "annotations")


def test_predicting_with_a_model_of_another_encoder(full_lake: TestLake) -> None:
    model = full_lake.read("models").with_columns(model_id=pl.lit("foreign"), encoder_id=pl.lit("uni-12345678"))
    store.put(full_lake.root, "models", model.to_dicts(), "test")
    refused(full_lake("predict", "--model", "foreign"), "foreign", "uni-12345678", "tiny", "histolake run")


def test_predicting_without_a_model_or_with_an_unknown_one(lake: TestLake, full_lake: TestLake) -> None:
    refused(lake("predict"), "no model", "histolake train")
    refused(full_lake("predict", "--model", "nobody"), "nobody", "models are")


def test_a_lake_written_by_a_newer_version(full_lake: TestLake) -> None:
    store.put(full_lake.root, "settings", [{"name": "format", "value": "99"}], "test")
    before = full_lake.versions()
    for words in (["run"], ["train"], ["check"], ["sql", "select 1"]):
        refused(full_lake(*words), "format 99", "update histolake")
    assert full_lake.versions() == before


def test_a_lake_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    for words in (["run"], ["check"], ["train"], ["predict"], ["evaluate"], ["sql", "select 1"], ["history"]):
        refused(run_command(*words, "--lake", str(tmp_path / "nowhere")), str(tmp_path / "nowhere"), "histolake ingest")
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_with_other_things_does_not_become_a_lake(tmp_path: Path) -> None:
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "letter.txt").touch()
    write_slide(tmp_path / "one.tif")
    refused(run_command("ingest", str(tmp_path / "one.tif"), "--lake", str(tmp_path / "things")), "things", "empty")
    assert [path.name for path in (tmp_path / "things").iterdir()] == ["letter.txt"]
    (tmp_path / "study" / "slides").mkdir(parents=True)  # a folder of slides is no table of slides
    write_slide(tmp_path / "study" / "slides" / "two.tif")
    refused(run_command("ingest", str(tmp_path / "one.tif"), "--lake", str(tmp_path / "study")), "study", "empty")


def test_wrong_sql_and_unknown_tables_and_versions(full_lake: TestLake) -> None:
    refused(full_lake("sql", "select nothing from nowhere"), "nowhere")
    refused(full_lake("sql", "select 1", "--at", "features"), "TABLE=VERSION")
    refused(full_lake("sql", "select 1", "--at", "nothing=3"), "nothing", "features")
    refused(full_lake("sql", "select 1", "--at", "features=300"), "features", "300")
    for table in ("features", "runs"):  # deltalake alone would look for every version up to it
        refused(full_lake("sql", "select 1", "--at", f"{table}=99999999999999999999"), table, "there is none yet")


@pytest.mark.parametrize(
    "words", [["--region", "1,2,3"], ["--region", "0,0,0,5"], ["--region", "Annotation 7", "--slide", "tumor_1"]]
)
def test_a_region_that_is_none(full_lake: TestLake, words: list[str]) -> None:
    refused(full_lake("run", *full_lake.tiling, *words), "--region")


def test_pictures_of_what_is_not_there(full_lake: TestLake, tmp_path: Path) -> None:
    refused(full_lake("heatmap", "nobody", "--out", str(tmp_path / "x.png")), "nobody", "tumor_1")
    refused(full_lake("heatmap", "tumor_1", "--out", str(tmp_path / "x.jpg")), "x.jpg", ".png")
    (tmp_path / "file").touch()
    refused(full_lake("heatmap", "tumor_1", "--out", str(tmp_path / "file" / "x.png")), "x.png", "written")
    assert not list(tmp_path.glob("x.*"))


def test_every_bad_slide_ends_as_a_failed_row_and_the_others_finish(lake: TestLake, tmp_path: Path) -> None:
    bad = SHARED / "data" / "slides" / "bad"
    if not bad.is_dir():
        pytest.skip("the broken slides are not here: ../shared/data/slides/bad is needed")
    write_slide(tmp_path / "good.tif")
    files = {path.stem for path in bad.iterdir()}
    answer = lake("ingest", str(bad), str(tmp_path / "good.tif"))
    assert answer.status == 1
    assert len([line for line in answer.err.splitlines() if line.startswith("failed:")]) == len(files)
    rows = lake.read("slides")
    assert set(rows.filter(status="failed")["slide_id"]) == files
    assert rows.filter(status="failed")["error"].null_count() == 0
    ledger = lake.read("runs").filter(stage="slides", status="failed")
    assert set(ledger["slide_id"]) == files
    lake.ok("run", *lake.tiling)
    assert set(lake.read("features")["slide_id"]) == {"good"}


def test_a_slide_with_an_unreadable_tile_keeps_all_other_patches(lake: TestLake, tmp_path: Path) -> None:
    path = write_slide(tmp_path / "torn.tif", tissue=(0, 0, 1024, 768))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        offset, count = page.dataoffsets[5], page.databytecounts[5]  # second row of tiles, second tile
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x00" * count)
    lake.ok("ingest", str(path))
    answer = lake("run", "--patch-px", "16", "--mpp", "1", "--encoder", "tiny")
    refused(answer, "torn", "256 of 3072", "cannot read")
    rows = lake.read("features")
    broken = rows.filter(pl.col("embedding").is_null()).sort("y", "x")
    assert broken.select("x", "y").rows() == [(x, y) for y in range(256, 512, 16) for x in range(256, 512, 16)]
    assert broken["error"].null_count() == 0
    assert rows.height == 64 * 48
    lake.ok("check")
