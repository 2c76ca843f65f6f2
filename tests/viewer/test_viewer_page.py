"""The viewer page in every state, and what its component is given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from slide_server import serving
from streamlit.testing.v1 import AppTest
from support import TestLake, write_slide
from viewer_support import Open, words

from lake import store
from lake.choices import Peaks
from udfs.slide_readers import readers
from viewer import patch_panel


def panes(app: AppTest) -> list[dict[str, Any]]:
    """What the viewer's component was given, a dictionary for each slide that it shows."""
    components = app.get("bidi_component")
    if not components:
        return []
    [component] = components
    return json.loads(component.proto.json)["panes"]


def click(app: AppTest, **asked: Any) -> AppTest:
    """Click a place: what the browser would send, as the page keeps it."""
    app.session_state["asked_patch"] = asked
    return app.run()


def test_without_a_slide_the_viewer_asks_for_one(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "viewer")
    assert "Choose a slide" in words(app)
    assert panes(app) == []


def test_the_component_gets_the_slide_its_heatmap_and_where_they_come_from(
    open_page: Open, full_lake: TestLake
) -> None:
    [pane] = panes(open_page(full_lake.root, "viewer", slide="tumor_4"))
    assert (pane["width"], pane["height"], pane["left"], pane["top"]) == (1024, 768, 0, 0)
    assert pane["tiles"] == "/histolake/tiles/tumor_4"
    model_id = full_lake.read("models")["model_id"][0]
    version = store.open_table(full_lake.root, "runs").version()
    assert pane["heatmap"].startswith(f"/histolake/heatmaps/tumor_4?model={model_id}&")
    assert f"version={version}" in pane["heatmap"]
    assert pane["outcomes"]
    assert pane["annotations"]
    said = "\n".join(pane["facts"])
    assert model_id in said
    assert f"predictions {full_lake.versions()['predictions']}" in said


def test_hotspots_are_told_highest_first_and_apart(open_page: Open, full_lake: TestLake) -> None:
    [pane] = panes(open_page(full_lake.root, "viewer", slide="tumor_1"))
    highest = full_lake.read("predictions").filter(slide_id="tumor_1")["probability"].max()
    probabilities = [patch["probability"] for patch in pane["hotspots"]]
    assert probabilities[0] == highest
    assert probabilities == sorted(probabilities, reverse=True)
    places = [(patch["x"], patch["y"]) for patch in pane["hotspots"]]
    assert len(places) > 1
    apart = Peaks.radius_um  # the slide has one micron a pixel
    assert all((x - u) ** 2 + (y - v) ** 2 >= apart**2 for i, (x, y) in enumerate(places) for u, v in places[:i])


def test_the_address_names_two_slides_to_compare(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "viewer", slide="tumor_4", slide2="normal_1")
    assert [pane["slide_id"] for pane in panes(app)] == ["tumor_4", "normal_1"]


def test_the_same_slide_is_shown_twice_to_compare_models(open_page: Open, full_lake: TestLake) -> None:
    model_id = full_lake.read("models")["model_id"][0]
    app = open_page(full_lake.root, "viewer", slide="tumor_4", model2=model_id)
    assert [pane["model_id"] for pane in panes(app)] == [model_id, model_id]


def test_an_unknown_slide_is_a_sentence(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "viewer", slide="tumor_99")
    assert "no slide 'tumor_99'" in words(app)
    assert app.selectbox(key="slide").value is None


def test_an_unknown_model_is_a_sentence_and_the_champion_is_shown(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "viewer", slide="tumor_4", model="nobody")
    assert "no model 'nobody'" in words(app)
    assert panes(app)[0]["model_id"] == full_lake.read("models")["model_id"][0]


def test_a_slide_without_a_model_is_shown_without_a_heatmap(
    open_page: Open, lake: TestLake, finished: tuple[Path, Path]
) -> None:
    lake.ok("ingest", str(finished[0] / "slides" / "normal_1.tif"))
    app = open_page(lake.root, "viewer", slide="normal_1")
    assert "histolake predict" in words(app)
    [pane] = panes(app)
    assert (pane["heatmap"], pane["outcomes"], pane["annotations"], pane["hotspots"]) == (None, None, None, [])


def test_a_half_scored_slide_says_how_much_is_missing(open_page: Open, full_lake: TestLake) -> None:
    table = store.open_table(full_lake.root, "predictions")
    patches = full_lake.read("predictions").filter(slide_id="tumor_4").height
    table.delete("slide_id = 'tumor_4' and y < 300")
    store.record(
        full_lake.root,
        [store.dataclasses.replace(store.entry("predictions", run_id="a test"), table_version=table.version())],
    )
    left = full_lake.read("predictions").filter(slide_id="tumor_4").height
    assert 0 < left < patches
    assert f"has scored {left} of the {patches} patches" in words(open_page(full_lake.root, "viewer", slide="tumor_4"))


def test_a_failed_slide_shows_its_reason_and_no_picture(open_page: Open, lake_with_failure: TestLake) -> None:
    app = open_page(lake_with_failure.root, "viewer", slide="broken")
    assert "OpenSlide does not know this format" in words(app)
    assert panes(app) == []


def test_a_slide_without_microns_per_pixel_is_shown_and_says_so(
    open_page: Open, full_lake: TestLake, slides: Path
) -> None:
    full_lake("ingest", str(write_slide(slides / "no_scale.tif", mpp=1000)))  # no scanner has that: it counts as none
    app = open_page(full_lake.root, "viewer", slide="no_scale")
    assert "microns per pixel" in words(app)
    [pane] = panes(app)
    assert (pane["mpp_x"], pane["heatmap"], pane["width"]) == (None, None, 1024)


def test_a_slide_on_a_server_is_fetched_when_it_is_opened(
    open_page: Open, full_lake: TestLake, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(slides, tmp_path / "served")
    with serving(tmp_path / "served") as server:
        (slides / "tumor_4.tif").unlink()
        full_lake.ok("ingest", server.url("tumor_4.tif"), "--split", "test")
        readers.close()
        monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "another"))
        server.requests.clear()
        app = open_page(full_lake.root, "viewer", slide="tumor_4")
        assert [pane["slide_id"] for pane in panes(app)] == ["tumor_4"]
        assert len(server.wholes("tumor_4.tif")) == 1


def test_a_slide_file_that_was_moved_is_a_sentence(open_page: Open, full_lake: TestLake, slides: Path) -> None:
    (slides / "tumor_4.tif").rename(slides / "elsewhere.tif")
    app = open_page(full_lake.root, "viewer", slide="tumor_4")
    assert "was the slide moved?" in words(app)
    assert "tumor_4" in words(app)
    assert panes(app) == []


def patch_of(lake: TestLake, slide_id: str) -> dict[str, Any]:
    """The slide's highest patch, as a click on it names it."""
    highest = (
        lake.read("predictions")
        .filter(slide_id=slide_id)
        .sort("probability", "y", "x", descending=[True, False, False])
    ).row(0, named=True)
    return {name: highest[name] for name in ("slide_id", "model_id", "patch_set", "x", "y")}


def test_a_click_shows_the_patch_what_it_resembles_and_its_origin(open_page: Open, full_lake: TestLake) -> None:
    asked = patch_of(full_lake, "tumor_4")
    app = click(open_page(full_lake.root, "viewer", slide="tumor_4"), **{**asked, "x": asked["x"] + 30})
    said = words(app)
    assert f"Patch at {asked['x']}, {asked['y']}" in said
    assert "label: tumor" in said
    assert "Cosine similarity" in said
    assert len(app.get("image")) == 2
    assert any("threshold" in str(element.value) and asked["model_id"] in str(element.value) for element in app.code)
    [component] = app.get("bidi_component")
    chosen = json.loads(component.proto.json)["chosen"]
    assert (chosen["x"], chosen["y"]) == (asked["x"], asked["y"])


def test_a_click_beside_all_patches_is_a_sentence(open_page: Open, full_lake: TestLake) -> None:
    asked = patch_of(full_lake, "tumor_4")
    app = click(open_page(full_lake.root, "viewer", slide="tumor_4"), **{**asked, "x": 5, "y": 5})
    assert "no patch at 5, 5" in words(app)
    assert len(panes(app)) == 1


def test_a_verdict_is_saved_with_the_reviewers_name(open_page: Open, full_lake: TestLake) -> None:
    asked = patch_of(full_lake, "tumor_4")
    app = click(open_page(full_lake.root, "viewer", slide="tumor_4"), **asked)
    app.radio[0].set_value("normal")
    app.text_input[0].set_value("germinal centre")
    app.text_input[1].set_value("Dr. Who")
    app.button[0].click().run()
    [saved] = full_lake.read("reviews").to_dicts()
    assert (saved["x"], saved["y"], saved["verdict"]) == (asked["x"], asked["y"], "normal")
    assert (saved["note"], saved["reviewer"], saved["model_id"]) == ("germinal centre", "Dr. Who", asked["model_id"])
    assert "Saved: normal" in app.success[0].value


def test_to_save_a_verdict_is_to_do_something(
    open_page: Open, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[bool] = []
    monkeypatch.setattr(patch_panel, "is_active", lambda: done.append(True))
    app = click(open_page(full_lake.root, "viewer", slide="tumor_4"), **patch_of(full_lake, "tumor_4"))
    assert not done
    app.button[0].click().run()
    assert done


def test_a_verdict_without_a_name_is_refused(open_page: Open, full_lake: TestLake) -> None:
    app = click(open_page(full_lake.root, "viewer", slide="tumor_4"), **patch_of(full_lake, "tumor_4"))
    app.button[0].click().run()
    assert "Write your name" in words(app)
    assert full_lake.read("reviews").is_empty()


def test_who_only_looks_is_not_asked_for_a_verdict(
    open_page: Open, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOLAKE_APP_ROLE", "viewer")
    app = click(open_page(full_lake.root, "viewer", slide="tumor_4"), **patch_of(full_lake, "tumor_4"))
    assert "Where this comes from" in [expander.label for expander in app.expander]
    assert not app.radio


@pytest.mark.parametrize("others", [0, 2])
def test_neighbours_are_the_most_alike_and_never_the_patch_itself(full_lake: TestLake, others: int) -> None:
    from lake import session
    from lake.sql_files import query

    asked = patch_of(full_lake, "tumor_4")
    features = full_lake.read("features").select("slide_id", "x", "y", "embedding")
    most = {0: 1, 2: features.height}[others]
    with session.connect(full_lake.root, udfs=()) as con:
        found = con.execute(query("app/neighbours"), {**asked, "patches": most, "neighbours": 5}).pl()
    assert found["similarity"].is_sorted(descending=True)
    itself = pl.col("slide_id").eq(asked["slide_id"]) & pl.col("x").eq(asked["x"]) & pl.col("y").eq(asked["y"])
    assert found.filter(itself).is_empty()
    if not others:
        assert found["slide_id"].unique().to_list() == [asked["slide_id"]]
        return
    vectors = features["embedding"].to_list()
    [own] = features.filter(itself)["embedding"].to_list()
    best = max(
        _cosine(own, vector) for vector, keep in zip(vectors, features.select(~itself).to_series(), strict=True) if keep
    )
    assert found["similarity"][0] == pytest.approx(best, abs=1e-6)


def _cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5)
