"""The routes that give the viewer its overlays, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import shapely
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support import TestLake, write_slide

from lake import store
from lake.patch_grid import MOST_CELLS, Lattice, lattice, probability_grid
from viewer import grids, slides


@pytest.fixture
def client(full_lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The routes on the finished lake."""
    slides.forget()
    monkeypatch.setenv("HISTOLAKE_LAKE", str(full_lake.root))
    with TestClient(Starlette(routes=grids.ROUTES)) as client:
        yield client


def grid_of(client: TestClient, address: str) -> tuple[dict[str, float], np.ndarray]:
    """Where the cells are, and the cells."""
    response = client.get(address)
    assert response.status_code == 200, response.text
    place = json.loads(response.headers["Histolake-Grid"])
    return place, np.frombuffer(response.content, np.uint8).reshape(place["rows"], place["columns"])


def test_a_cell_is_a_patch_with_its_probability(client: TestClient, full_lake: TestLake) -> None:
    place, cells = grid_of(client, "/histolake/heatmaps/tumor_4")
    assert (place["step_x"], place["step_y"]) == (64, 64)
    patches = full_lake.read("predictions").filter(slide_id="tumor_4")
    assert (cells > 0).sum() == patches.height
    for x, y, probability in patches.select("x", "y", "probability").iter_rows():
        cell = cells[round((y - place["y"]) / 64), round((x - place["x"]) / 64)]
        assert (cell - 1) / 254 == pytest.approx(probability, abs=0.5 / 254)


def test_outcomes_lie_on_the_heatmaps_cells(client: TestClient, full_lake: TestLake) -> None:
    place, cells = grid_of(client, "/histolake/outcomes/tumor_4")
    assert grid_of(client, "/histolake/heatmaps/tumor_4")[0] == place
    threshold = full_lake.read("models")["threshold"][0]
    scored = full_lake.read("predictions").join(full_lake.read("labels"), on=["slide_id", "patch_set", "x", "y"])
    rows = scored.filter(slide_id="tumor_4").select("x", "y", "probability", "label").rows()
    assert {label for *_, label in rows} == {0, 1}
    for x, y, probability, label in rows:
        cell = cells[round((y - place["y"]) / 64), round((x - place["x"]) / 64)]
        assert cell == 1 + 2 * label + (probability >= threshold)
    assert (cells > 0).sum() == len(rows)


def test_outlines_are_those_that_were_drawn(client: TestClient) -> None:
    [shape] = client.get("/histolake/annotations/tumor_4").json()["shapes"]
    assert (shape["meaning"], shape["group"]) == ("tumor", "Tumor")
    [ring] = shape["rings"]
    corners = list(zip(ring[::2], ring[1::2], strict=True))
    assert shapely.Polygon(corners).equals(shapely.box(320, 192, 640, 448))


def test_hotspots_are_a_file_for_qupath(client: TestClient, full_lake: TestLake) -> None:
    response = client.get("/histolake/hotspots/tumor_4")
    assert response.headers["Content-Disposition"] == 'attachment; filename="tumor_4.geojson"'
    collection = response.json()
    first = collection["features"][0]
    highest = full_lake.read("predictions").filter(slide_id="tumor_4").sort("probability", descending=True)
    assert first["properties"]["measurements"]["probability"] == highest["probability"][0]
    assert first["properties"]["name"] == "hotspot 1"
    assert collection["histolake"]["notice"] == "Research use only. Not for diagnosis."
    assert collection["histolake"]["table_versions"]["predictions"] == full_lake.versions()["predictions"]


@pytest.mark.parametrize("kind", ["heatmaps", "outcomes", "annotations", "hotspots"])
def test_an_unknown_slide_is_a_sentence(client: TestClient, kind: str) -> None:
    response = client.get(f"/histolake/{kind}/nobody")
    assert response.status_code == 404
    assert "no slide 'nobody'" in response.json()["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("model=nobody", "no model 'nobody'"),
        ("patch_set=nothing", "has scored no patch of nothing"),
        ("version=soon", "a whole number"),
        ("version=99999", "99999"),
        ("version=999999999999", "there is none yet"),  # deltalake alone would look for every version up to it
        (f"version={'9' * 5000}", "a whole number"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence_and_is_not_kept(client: TestClient, query: str, said: str) -> None:
    response = client.get(f"/histolake/heatmaps/tumor_4?{query}")
    assert response.status_code == 404
    assert said in response.json()["error"]
    assert response.headers["Cache-Control"] == "no-cache"


def test_a_slide_that_no_model_has_scored_is_a_sentence(client: TestClient, full_lake: TestLake, slides: Path) -> None:
    full_lake.ok("ingest", str(write_slide(slides / "new_1.tif")))
    response = client.get("/histolake/heatmaps/new_1")
    assert response.status_code == 404
    assert "`histolake predict`" in response.json()["error"]


def test_a_version_is_kept_by_the_browser_and_stays_as_it_was(client: TestClient, full_lake: TestLake) -> None:
    version = store.open_table(full_lake.root, "runs").version()
    address = f"/histolake/heatmaps/tumor_4?version={version}"
    before = client.get(address)
    assert "immutable" in before.headers["Cache-Control"]
    assert "immutable" not in client.get("/histolake/heatmaps/tumor_4").headers["Cache-Control"]
    table = store.open_table(full_lake.root, "predictions")
    table.delete("slide_id = 'tumor_4' and y < 300")
    changed = store.dataclasses.replace(store.entry("predictions", run_id="a test"), table_version=table.version())
    store.record(full_lake.root, [changed])
    slides.forget()
    assert client.get(address).content == before.content
    assert client.get("/histolake/heatmaps/tumor_4").content != before.content


def test_overlapping_patches_share_cells_of_one_stride() -> None:
    tiles = pl.DataFrame(
        {"x": [100, 132], "y": [50, 50], "span_x": [64.0, 64.0], "span_y": [64.0, 64.0], "probability": [0.0, 1.0]}
    )
    grid = probability_grid(tiles, lattice(tiles, 32, 32))
    assert grid.where == Lattice(100, 50, 32, 32, 3, 2)
    assert grid.cells.tolist() == [[1, 128, 255]] * 2


def test_patches_on_no_grid_are_drawn_within_an_eighth_of_their_size() -> None:
    tiles = pl.DataFrame(
        {"x": [0, 1000], "y": [0, 333], "span_x": [64.0, 64.0], "span_y": [64.0, 64.0], "probability": [1.0, 1.0]}
    )
    grid = probability_grid(tiles, lattice(tiles, None, None))
    rows, columns = np.nonzero(grid.cells)
    right = rows > 8
    for x, y, chosen in ((0, 0, ~right), (1000, 333, right)):
        assert abs(columns[chosen].min() * grid.where.step_x - x) <= 8
        assert abs((columns[chosen].max() + 1) * grid.where.step_x - (x + 64)) <= 8
        assert abs(rows[chosen].min() * grid.where.step_y - y) <= 8


def test_a_grid_of_a_huge_area_is_bounded() -> None:
    tiles = pl.DataFrame({"x": [0, 300_000], "y": [0, 300_000], "span_x": [4.0, 4.0], "span_y": [4.0, 4.0]})
    where = lattice(tiles, 4, 4)
    assert where.columns * where.rows <= MOST_CELLS * 1.01
