"""Slides under pseudonyms: what stays the same, what needs the key file, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slide_server import serving
from support import ROOT, TestLake, asap, write_slide

from lake import store
from lake.pseudonymize import meanings
from udfs import pseudonyms
from udfs.addresses import KEY_VARIABLE
from udfs.errors import FetchError, HistolakeError, KeyFileError, MissingError
from udfs.slide_cache import local

pytestmark = pytest.mark.slow

JANE = "Jane Doe"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a key file that is not there yet; the environment names none."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return tmp_path / "keys.sqlite"


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    return write_slide(folder / f"{JANE}.tif", tumor=(320, 192, 192, 256))


def ingest(lake: TestLake, key: Path, *words: str) -> None:
    lake.ok("ingest", *words, "--pseudonymize", str(key))


def only(lake: TestLake, table: str = "slides") -> dict[str, object]:
    [row] = lake.read(table).to_dicts()
    return row


def test_a_slide_gets_a_pseudonym_and_the_same_one_again(lake: TestLake, slide: Path, key: Path) -> None:
    ingest(lake, key, str(slide))
    first = only(lake)
    assert first["slide_id"].startswith("slide-")
    assert first["path"].startswith("pseudonym:")
    assert (first["status"], first["width"]) == ("ok", 1024)
    again = lake.ok("ingest", str(slide), "--pseudonymize", str(key))
    assert "nothing to do" in again.err
    assert only(lake) == first


def test_another_key_gives_another_pseudonym(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path, tiny_onnx: Path
) -> None:
    other = TestLake(tmp_path / "other")
    ingest(lake, key, str(slide))
    ingest(other, tmp_path / "other.sqlite", str(slide))
    mine, theirs = only(lake), only(other)
    assert not {mine[name] for name in ("slide_id", "path", "fingerprint")} & set(theirs.values())


def test_the_key_file_is_the_owners_alone(lake: TestLake, slide: Path, key: Path) -> None:
    ingest(lake, key, str(slide))
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    refused = lake("ingest", str(slide), "--pseudonymize", str(key))
    assert refused.status == 1
    assert f"chmod 600 '{key}'" in refused.err


def test_a_key_file_in_the_lake_is_refused(lake: TestLake, slide: Path, key: Path, tmp_path: Path) -> None:
    inside = lake.root / "onnx" / "key"
    link = tmp_path / "link"
    link.symlink_to(lake.root)
    for place in (inside, link / "key"):
        refused = lake("ingest", str(slide), "--pseudonymize", str(place))
        assert "the key file is in the lake" in refused.err
        assert not place.exists()
    assert lake.read("slides").is_empty()


def test_what_is_no_key_file_is_refused_and_left_alone(lake: TestLake, slide: Path, key: Path) -> None:
    key.write_text("slide,patient\n" * 100)
    key.chmod(0o600)
    before = key.read_bytes()
    assert "is it histolake's?" in lake("ingest", str(slide), "--pseudonymize", str(key)).err
    assert key.read_bytes() == before


def test_a_lake_is_pseudonymous_from_its_first_slide_on_or_never(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path
) -> None:
    lake.ok("ingest", str(slide))
    refused = lake("ingest", str(slide), "--pseudonymize", str(key))
    assert "under their own names" in refused.err
    assert not key.exists()
    other = TestLake(tmp_path / "other")
    ingest(other, key, str(slide))
    refused = other("ingest", str(slide))
    assert refused.status == 1
    assert "--pseudonymize FILE" in refused.err
    assert other.read("slides").height == 1


def test_the_environment_names_the_key_file_too(
    lake: TestLake, slide: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    lake.ok("ingest", str(slide))
    assert only(lake)["slide_id"].startswith("slide-")
    assert os.environ[KEY_VARIABLE] == str(key)


def test_without_the_key_file_pixels_are_refused_and_nothing_counts_as_failed(
    lake: TestLake, slide: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(lake, key, str(slide))
    before = lake.read("runs").height
    refused = lake("run", *lake.tiling)
    assert refused.status == 1
    assert "no key file is at hand" in refused.err
    assert set(lake.read("runs")["status"]) == {"ok"}
    assert lake.read("patches").is_empty()
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    lake.ok("run", *lake.tiling)
    assert lake.read("runs").height > before
    assert lake.read("features")["error"].null_count() == lake.read("features").height > 0


def test_a_lost_key_leaves_all_that_needs_no_pixels(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [slide, *(write_slide(slide.with_name(f"{name}.tif"), tumor=(320, 192, 64, 256)) for name in ("b", "c"))]
    manifest = slide.with_name("manifest.csv")
    rows = zip(files, ("train", "validation", "test"), strict=True)
    manifest.write_text("path,split\n" + "".join(f"{file.name},{split}\n" for file, split in rows))
    annotated = ("--annotations", str(slide.parent / "*.xml"))
    ingest(lake, key, *annotated, "--manifest", str(manifest))
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    lake.ok("run", *lake.tiling)
    key.unlink()
    lake.ok("train", "--encoder", "tiny")
    lake.ok("predict")
    lake.ok("evaluate")
    assert lake.ok("check", "--json").json()
    slide_id = lake.read("slides")["slide_id"][0]
    lake.ok("export", "predictions", "--out", str(tmp_path / "out"))
    drawn = lake("heatmap", slide_id, "--out", str(tmp_path / "heatmap.png"))
    assert drawn.status == 1
    assert "the key file cannot be read: No such file" in drawn.err
    monkeypatch.delenv(KEY_VARIABLE)
    assert "no key file is at hand" in lake("heatmap", slide_id, "--out", str(tmp_path / "heatmap.png")).err


def test_a_wrong_key_is_told(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong.sqlite"
    pseudonyms.make(wrong)
    ingest(lake, key, str(slide))
    refused = lake("ingest", str(slide), "--pseudonymize", str(wrong))
    assert "not the key file that the lake's pseudonyms were made with" in refused.err
    monkeypatch.setenv(KEY_VARIABLE, str(wrong))
    assert "is another lake's" in lake("run", *lake.tiling).err
    assert set(lake.read("runs")["status"]) == {"ok"}


def test_a_slide_that_an_older_key_file_lacks_fails_alone(
    lake: TestLake, slide: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(lake, key, str(slide))
    kept = key.read_bytes()
    other = write_slide(slide.with_name("other.tif"))
    ingest(lake, key, str(other))
    shutil.copy(key, key.with_name("new"))
    older = key.with_name("older")
    older.write_bytes(kept)
    older.chmod(0o600)
    monkeypatch.setenv(KEY_VARIABLE, str(older))
    done = lake("run", *lake.tiling, "--json")
    assert done.status == 1
    failed = {each["slide_id"] for stage in done.json() for each in stage["failures"]}
    assert len(failed) == 1
    assert set(lake.read("patches")["slide_id"]).isdisjoint(failed)
    assert lake.read("patches").height
    ingest(lake, older, str(other))
    lake.ok("run", *lake.tiling, "--retry-failed")
    assert failed < set(lake.read("patches")["slide_id"])


def test_a_moved_file_keeps_its_id_and_what_was_made_from_it(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(lake, key, str(slide))
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    lake.ok("run", *lake.tiling)
    before = only(lake)
    moved = tmp_path / "archive" / slide.name
    moved.parent.mkdir()
    slide.rename(moved)
    lake.ok("ingest", str(moved))
    after = only(lake)
    assert {name for name in after if after[name] != before[name]} == {"path"}
    assert "nothing to do" in lake.ok("run", *lake.tiling).err
    [told], _ = meanings(lake.root)
    assert (told["slide"], told["path"]) == (JANE, str(moved))


def test_a_changed_file_is_done_again(lake: TestLake, slide: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(lake, key, str(slide))
    before = only(lake)
    write_slide(slide, tissue=(128, 128, 256, 256))
    ingest(lake, key, str(slide))
    after = only(lake)
    assert after["slide_id"] == before["slide_id"]
    assert after["fingerprint"] != before["fingerprint"]


def test_patients_stay_on_one_side_and_annotations_find_their_slides(
    lake: TestLake, slide: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c", "d"):
        write_slide(slide.with_name(f"{name}.tif"), tumor=(320, 192, 192, 256))
    slide.with_name("a.xml").rename(slide.with_name("a.tif.xml"))
    manifest = slide.with_name("manifest.csv")
    manifest.write_text(
        "slide_id,path,patient_id,label\nx1,a.tif,P-1,Tumor\n,b.tif,P-1,\n,c.tif,P-2,normal\n,d.tif,P-1,\n"
    )
    centres = slide.with_name("centres.csv")
    centres.write_text("x1,400,300\nc,400,300\n")
    words = ("--manifest", str(manifest), "--annotations", str(slide.parent / "*.xml"), "--coords-tumor", str(centres))
    ingest(lake, key, *words)
    slides = lake.read("slides")
    assert slides["patient_id"].n_unique() == 2
    assert slides.filter(slides["patient_id"] == slides["patient_id"].mode()[0])["split"].n_unique() == 1
    assert sorted(slides["label"].drop_nulls()) == ["normal", "tumor"]
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    told, _ = meanings(lake.root)
    assert {(row["slide"], row["patient"]) for row in told} == {("x1", "P-1"), ("b", "P-1"), ("c", "P-2"), ("d", "P-1")}
    named = {row["slide_id"]: row["slide"] for row in told}
    annotations = lake.read("annotations")
    assert set(annotations["label"]) == {1}
    by_source = annotations.group_by("source").agg("slide_id").rows()
    assert sorted(sorted(named.get(each, "?") for each in ids) for _, ids in by_source) == [
        ["?"],  # of the files, that of 'a', which the manifest calls x1, and that of no slide given here
        ["?"],
        ["b"],
        ["c"],
        ["c", "x1"],
        ["d"],
    ]
    _, [file] = meanings(lake.root, [annotations.filter(annotations["slide_id"] == told[0]["slide_id"])["source"][0]])
    assert file["name"].endswith((".xml", ".csv"))


def test_names_in_an_annotation_file_get_pseudonyms_unless_they_have_a_meaning(
    lake: TestLake, slide: Path, key: Path
) -> None:
    file = slide.with_suffix(".xml")
    file.write_text(asap([("Tumor", (0, 0, 100, 100)), ("Seen by Jane", (200, 200, 100, 100))]))
    ingest(lake, key, str(slide), "--annotations", str(file))
    rows = {row["label"]: row for row in lake.read("annotations").to_dicts()}
    assert rows[1]["group_name"] == "Tumor"
    assert rows[None]["group_name"].startswith("group-")
    assert all(row["annotation_id"].startswith("shape-") for row in rows.values())
    lake.ok("groups", "set", str(rows[None]["group_name"]), "normal")
    assert set(lake.read("annotations")["label"]) == {0, 1}


def test_an_annotation_file_that_cannot_be_read_says_which_by_the_key(
    lake: TestLake, slide: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = slide.with_suffix(".xml")
    file.write_text("<JaneDoe><unclosed></JaneDoe>")
    failed = lake("ingest", str(slide), "--annotations", str(file), "--pseudonymize", str(key), "--json")
    [error] = [each["error"] for stage in failed.json() for each in stage["failures"]]
    assert "Jane" not in error
    path = error.partition(": ")[0]
    assert path.startswith("pseudonym:")
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    shown = lake.ok("pseudonyms", path, "--json").json()
    assert shown["others"] == [{"pseudonym": path, "name": str(file)}]


def test_two_files_of_one_name_are_refused_by_their_pseudonyms(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    rival = write_slide(tmp_path / "more" / slide.name, tissue=(0, 0, 300, 300))
    refused = lake("ingest", str(slide), str(rival), "--pseudonymize", str(key))
    assert "two slides have the id 'slide-" in refused.err
    assert "Jane" not in refused.err
    ingest(lake, key, str(slide))
    refused = lake("ingest", str(rival), "--pseudonymize", str(key))
    assert "two slides have the id 'slide-" in refused.err
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    named = refused.err.split("'")[1]
    [told] = lake.ok("pseudonyms", named, "--json").json()["slides"]
    assert told["path"] == str(slide)


def test_the_worklists_remedy_can_be_typed(
    lake: TestLake, slide: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = slide.read_bytes()
    slide.write_bytes(b"no slide")
    assert lake("ingest", str(slide), "--pseudonymize", str(key)).status == 1
    slide.write_bytes(whole)
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    lake.ok("ingest", str(only(lake)["path"]), "--retry-failed")
    assert only(lake)["status"] == "ok"


def test_pseudonyms_are_told_to_who_holds_the_key_alone(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(lake, key, str(slide))
    assert lake("pseudonyms").status == 1
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    assert JANE in lake.ok("pseudonyms").out
    assert "does not know this pseudonym" in lake("pseudonyms", "slide-of-nobody").err
    plain = TestLake(tmp_path / "plain")
    monkeypatch.delenv(KEY_VARIABLE)
    plain.ok("ingest", str(slide))
    with pytest.raises(HistolakeError, match="have no pseudonyms"):
        meanings(plain.root)


def test_a_slide_on_a_server_is_fetched_and_its_address_stays_out(
    lake: TestLake, slide: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
    plain = slide.rename(slide.with_name("JaneDoe.tif"))
    with serving(plain.parent) as server:
        ingest(lake, key, f"{server.address}/JaneDoe.tif")
        assert only(lake)["status"] == "ok"
        monkeypatch.setenv(KEY_VARIABLE, str(key))
        lake.ok("run", *lake.tiling)
        gone = f"{server.address}/JaneDoe-2.tif"
        known = pseudonyms.opened(key)
        known.record([(known.path(gone), "path", gone)])
        with pytest.raises(MissingError, match="not there") as missing:
            local(known.path(gone))
    out_of_reach = "http://127.0.0.1:9/JaneDoe.tif"
    known.record([(known.path(out_of_reach), "path", out_of_reach)])
    with pytest.raises(FetchError, match="cannot be fetched") as refusal:
        local(known.path(out_of_reach))
    for each in (missing, refusal):
        assert "Jane" not in str(each.value)
        assert "127.0.0.1" not in str(each.value)


@pytest.mark.slow
def test_two_ingests_at_once_agree(lake: TestLake, slide: Path, key: Path) -> None:
    for number in range(8):
        write_slide(slide.with_name(f"slide {number}.tif"))
    command = [sys.executable, "-m", "lake", "ingest", str(slide.parent), "--pseudonymize", str(key)]
    both = [subprocess.Popen([*command, "--lake", str(lake.root)], cwd=ROOT) for _ in range(2)]
    assert [each.wait(280) for each in both] == [0, 0]
    slides = lake.read("slides")
    assert (slides.height, slides["slide_id"].n_unique()) == (9, 9)
    assert lake.ok("check", "--json")


def test_a_slide_under_its_own_name_breaks_a_promise_of_a_lake_of_pseudonyms(
    lake: TestLake, slide: Path, key: Path
) -> None:
    lake.ok("ingest", str(slide))
    store.put(lake.root, "settings", [{"name": "pseudonyms", "value": "0" * 12}], "test")
    broken = [each["name"] for each in lake("check", "--json").json() if each["violations"] and not each["notice"]]
    assert "slides_keep_their_pseudonyms" in broken


def test_a_relative_place_of_the_key_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "keys.sqlite")
    with pytest.raises(KeyFileError, match="whole path"):
        pseudonyms.true_path("pseudonym:0/path-0")


KILLED = """
import os, sqlite3, sys
con = sqlite3.connect(sys.argv[1], isolation_level=None)
con.execute("pragma cache_size = 1")
con.execute("begin immediate")
rows = ((f"slide-{number}", "slide", "x" * 500) for number in range(2_000))
con.executemany("insert into pseudonyms values (?, ?, ?)", rows)
os._exit(0)
"""
"""Killed while it writes, when pages have reached the file already."""


def test_a_key_file_whose_writer_was_killed_is_what_it_was_before(key: Path) -> None:
    made = pseudonyms.make(key)
    made.record([("slide-a", "slide", "a")])
    subprocess.run([sys.executable, "-c", KILLED, str(key)], check=True)
    assert Path(f"{key}-journal").exists()
    pseudonyms._read.cache_clear()
    assert pseudonyms.opened(key) == made
    assert made.names(["slide-a", "slide-1"]) == {"slide-a": "a"}


def test_pseudonyms_are_recorded_all_or_none(key: Path) -> None:
    made = pseudonyms.make(key)
    with pytest.raises(KeyFileError, match="cannot be read or written"):
        made.record([("slide-a", "slide", "a"), ("slide-b", "slide", {})])  # type: ignore[list-item]
    assert made.names(["slide-a"]) == {}


def test_a_key_file_that_may_only_be_read_is_read(key: Path) -> None:
    made = pseudonyms.make(key)
    made.record([("slide-a", "slide", "a")])
    key.chmod(0o400)
    assert made.names(["slide-a"]) == {"slide-a": "a"}
