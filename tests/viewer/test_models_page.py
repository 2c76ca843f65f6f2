"""The models page in every state, and who may make a model the champion."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from support import ROOT, TestLake, run_command
from viewer_support import AA_TEXT, Open, contrast, rgb, tables, words

from lake import mlflow_runs, models, store
from lake.choices import Role
from lake.tables import TABLES
from udfs.errors import HistolakeError, ModelError
from viewer import models_charts
from viewer.chart import INK
from viewer.models_promotion import ASKED, promote
from viewer.person import person
from viewer.roles import VARIABLE, DeniedError

pytestmark = pytest.mark.slow


def charts(app: AppTest) -> list[dict[str, Any]]:
    """The page's charts as Vega-Lite got them."""
    return [json.loads(each.proto.spec) for each in app.get("vega_lite_chart")]


def series(chart: Any) -> list[str]:
    """The names that a chart gives colors to."""
    if isinstance(chart, dict) and chart.get("field") == "series" and "legend" in chart:
        return list(chart["scale"]["domain"])
    parts = chart.values() if isinstance(chart, dict) else chart if isinstance(chart, list) else ()
    return next(filter(None, map(series, parts)), [])


def listed(app: AppTest) -> pl.DataFrame:
    return tables(app)[0]


def test_the_page_shows_what_evaluate_stored(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "models")
    stored = full_lake.read("metrics")
    intervals = set()
    for scope, name, said in (
        ("patch", "balanced_accuracy", "balanced accuracy"),
        ("patch", "tp", "true positives"),
        ("slide", "auc_mean_top10", "AUC of the mean of the ten highest"),
        ("lesion", "sensitivity_at_0.5", "sensitivity at 0.5 false positives"),
        ("lesion", "lesions", "lesions"),
    ):
        [table] = [each for each in tables(app) if {"metric", "count"} & set(each.columns) and said in each.to_series()]
        shown = table.filter(table.to_series() == said).to_dicts()[0]
        for split, value, low, high in (
            stored.filter(scope=scope, name=name).select("split", "value", "low", "high").rows()
        ):
            assert shown[split] == pytest.approx(value)
            if low is not None and "metric" in table.columns:
                assert shown[f"{split} 95 %"] == f"{low:.3f} to {high:.3f}"
                intervals.add(scope)
    assert intervals == {"patch", "slide", "lesion"}
    assert not app.warning
    assert not app.info[:-1]  # of the other protocol there is no model yet
    assert "patch_random" in app.info[0].value
    assert len(charts(app)) == 6
    [model] = full_lake.read("models").to_dicts()
    assert f"{model['trained_at']:%Y-%m-%d %H:%M} UTC" in words(app)
    assert model["mlflow_run_id"] in words(app)
    [scores] = [each for each in tables(app) if "score" in each.columns]
    kept = full_lake.read("slide_scores").filter(name="mean_top10").sort("score", descending=True)
    assert scores["score"].to_list() == kept["score"].to_list()
    assert scores["open"][0] == f"viewer?slide={scores['slide_id'][0]}&model={model['model_id']}"


def test_metrics_of_an_older_lake_are_said_to_be_old(open_page: Open, lake_with_failure: TestLake) -> None:
    assert "`histolake evaluate`" in open_page(lake_with_failure.root, "models").warning[0].value


def test_without_labels_and_numbers_the_page_says_what_to_type(open_page: Open, own_lake: TestLake) -> None:
    slides = own_lake.read("slides")["slide_id"]
    gone = [store.Replacement({"slide_id": slide_id}) for slide_id in slides]
    for name in ("annotations", "labels", "metrics", "slide_scores"):
        where = gone if name != "metrics" else [store.Replacement({"protocol": "by_slide"})]
        store.replace(
            own_lake.root, name, own_lake.read(name).clear().to_arrow(), where, [store.entry(name, run_id="x")]
        )
    app = open_page(own_lake.root, "models")
    text = words(app)
    assert not charts(app)
    assert "`histolake ingest --annotations`" in text
    assert "`histolake predict`" in text
    assert "`histolake evaluate` measures" in text


def test_one_slide_of_a_lake_with_a_model_is_enough_for_a_page(open_page: Open, own_lake: TestLake) -> None:
    kept = own_lake.read("slides").filter(slide_id="tumor_4")
    gone = [store.Replacement({"slide_id": each}) for each in own_lake.read("slides")["slide_id"] if each != "tumor_4"]
    nothing = kept.clear().to_arrow()
    store.replace(own_lake.root, "slides", nothing, gone, [store.entry("slides", run_id="x")])
    app = open_page(own_lake.root, "models")
    assert series(charts(app)[0]) == ["test", "validation", "train"]
    assert "The lake has changed" in app.warning[0].value


def test_a_model_of_the_address_is_shown_and_an_unknown_one_is_a_sentence(
    open_page: Open, compared: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "admin")
    champion, flattered, first = models_of(compared)
    app = open_page(compared.root, "models", model=first)
    assert listed(app)["model_id"].to_list() == [champion, flattered, first]
    assert listed(app)["role"].to_list() == ["champion", "", ""]
    assert app.selectbox(key="chosen model").value == first
    assert f"Model {first} (models:/histolake/1)" in words(app)
    assert "patch_random: it has seen other patches" in words(app)
    protocols = tables(app)[-1]
    assert protocols.columns[2:] == ["by_slide", "by slide 95 %", "patch_random", "patch random 95 %", "difference"]

    app.query_params["model"] = "no_model"
    app.query_params["compare"] = "none_either"
    app.run()
    assert app.selectbox(key="chosen model").value == champion
    assert ["model=no_model" in error.value.replace("\\", "") for error in app.error] == [True, False]
    assert "compare=none_either" in app.error[1].value.replace("\\", "")

    app.selectbox(key="chosen model").select(flattered).run()
    assert app.query_params["model"] in (flattered, [flattered])
    assert "its numbers flatter" in words(app)
    assert app.button(key="promote").disabled


def test_two_models_share_charts_and_differ_in_a_table(open_page: Open, compared: TestLake) -> None:
    champion, _, first = models_of(compared)
    app = open_page(compared.root, "models", model=first, compare=champion)
    names = [f"A · {first}", f"B · {champion}"]
    drawn = charts(app)
    assert [series(drawn[number]) for number in (0, 1, 2, 4, 5)] == [names] * 5
    for chart in drawn[:2]:
        assert '"strokeDash"' in json.dumps(chart)
    [numbers] = [each for each in tables(app) if "B less A" in each.columns]
    told = run_command("compare", first, champion, "--split", "test", "--json", "--lake", str(compared.root)).json()
    [pair] = [row for row in told["paired"] if row["name"] == "balanced_accuracy"]
    [row] = numbers.filter(metric="balanced accuracy").to_dicts()
    assert row["B less A"] == f"{pair['difference']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})"
    flips = [row for row in told["slides"] if row["is_flipped"] or row["to_tumor"] + row["to_normal"]]
    assert f"{len(flips)} of {len(told['slides'])} test slides" in words(app)

    app.segmented_control(key="split").set_value("train").run()
    assert "train slides" in words(app)


def test_slides_with_patches_that_flip_open_under_either_model(open_page: Open, compared: TestLake) -> None:
    champion, _, first = models_of(compared)
    predictions = compared.read("predictions").filter(slide_id="tumor_4")
    threshold = dict(compared.read("models").select("model_id", "threshold").iter_rows())
    is_normal = pl.col("probability") < threshold[first]
    inverted = predictions.filter(model_id=first).with_columns(probability=is_normal.cast(pl.Float64))
    data = inverted.to_arrow().cast(TABLES["predictions"].schema)
    own = store.Replacement({"slide_id": "tumor_4", "model_id": first})
    store.replace(compared.root, "predictions", data, [own], [store.entry("predictions", run_id="test")])
    app = open_page(compared.root, "models", model=first, compare=champion)
    assert "1 of 2 test slides have patches" in words(app)
    [flips] = [each for each in tables(app) if "open_b" in each.columns]
    [row] = flips.to_dicts()
    assert row["open_a"] == f"viewer?slide=tumor_4&model={first}"
    assert row["open_b"] == f"viewer?slide=tumor_4&model={champion}"
    is_tumor = predictions.filter(model_id=champion)["probability"] >= threshold[champion]
    assert (row["to_tumor"], row["to_normal"]) == (is_tumor.sum(), (~is_tumor).sum())
    assert 0 < row["to_tumor"] < row["patches"]


def test_models_without_a_common_tiling_are_a_sentence(open_page: Open, own_lake: TestLake) -> None:
    second = own_lake.ok("train", "--encoder", "tiny", "--calibration", "platt", "--json").json()["model_id"]
    first = models_of(own_lake)[1]
    app = open_page(own_lake.root, "models", model=first, compare=second)
    text = words(app)
    assert f"{second} has scored nothing" in text
    assert f"Nothing was measured of model {second} yet" in text
    assert series(charts(app)[0]) == [f"A · {first}", f"B · {second}"]


def test_mlflows_runs_stand_beside_the_models_when_asked_for(open_page: Open, compared: TestLake) -> None:
    app = open_page(compared.root, "models")
    assert not [each for each in tables(app) if "status" in each.columns]
    app.toggle(key="mlflow").set_value(True).run()
    [runs] = [each for each in tables(app) if "status" in each.columns]
    rows = compared.read("models")
    assert dict(runs.select("run_id", "model_id").rows()) == dict(rows.select("mlflow_run_id", "model_id").rows())
    assert set(runs["status"]) == {"FINISHED"}
    [parameters] = [each for each in tables(app) if "parameter" in each.columns]
    assert parameters.filter(parameter="calibration")["value"].to_list() == ["temperature"]


def test_a_lake_without_mlflow_has_no_runs_and_a_broken_one_is_a_sentence(own_lake: TestLake, tmp_path: Path) -> None:
    assert mlflow_runs.runs(tmp_path) == []
    assert not (tmp_path / "mlflow").exists()
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(ModelError, match="MLflow cannot read"):
        mlflow_runs.runs(tmp_path)


def test_the_whole_froc_curve_is_drawn_when_asked_for(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "models")
    assert len(charts(app)[5]["layer"]) == 2
    app.toggle(key="whole curve").set_value(True).run()
    assert not app.exception
    assert len(charts(app)[5]["layer"]) == 3
    assert "hits on them count neither way" in words(app)


# -- promotion


def models_of(lake: TestLake) -> list[str]:
    """The model_ids in the order of the page: the champion, then the newest."""
    champion = models.champion(lake.root)
    return sorted((row["model_id"] for row in models.rows(lake.root)), key=lambda model_id: model_id != champion)


@pytest.fixture
def asking(open_page: Open, compared: TestLake, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page that asks an admin whether the last of the models shall be the champion."""
    monkeypatch.setenv(VARIABLE, "admin")
    app = open_page(compared.root, "models", model=models_of(compared)[-1])
    return app.button(key="promote").click().run()


def test_an_admin_makes_a_model_the_champion_and_the_ledger_keeps_why(asking: AppTest, compared: TestLake) -> None:
    app, (champion, _, first) = asking, models_of(compared)
    assert f"in the place of {champion}" in words(app)
    assert models.champion(compared.root) == champion
    app.text_area(key="promotion reason").input("fewer false positives")
    app.button(key="confirm promotion").click().run()
    assert not app.exception
    assert models.champion(compared.root) == first
    alias = models.tracking(compared.root).get_model_version_by_alias("histolake", "champion")
    assert str(alias.version) == "1"
    entry = compared.read("runs").filter(stage="settings").sort("finished_at").row(-1, named=True)
    assert json.loads(entry["identity"]) == {"name": "champion"}
    assert json.loads(entry["parameters"]) == {"model_id": first, "reason": "fewer false positives"}

    app.run()
    assert listed(app)["model_id"][0] == first
    [history] = [each for each in tables(app) if "reason" in each.columns]
    assert history.select("model_id", "reason").rows()[0] == (first, "fewer false positives")
    assert not [button for button in app.button if button.key == "promote"]


@pytest.mark.parametrize("held", ["viewer", "analyst"])
def test_nobody_but_an_admin_promotes_not_even_by_forged_state(
    open_page: Open, compared: TestLake, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    monkeypatch.setenv(VARIABLE, held)
    champion, _, first = models_of(compared)
    app = open_page(compared.root, "models", model=first)
    for name, value in ((ASKED, first), ("promote", True), ("confirm promotion", True), ("role", "admin")):
        app.session_state[name] = value
    app.run()
    assert not [button for button in app.button if button.key in ("promote", "confirm promotion")]
    with pytest.raises(HistolakeError, match=f"only the role admin .* yours is {held}"):
        promote(compared.root, first)
    assert models.champion(compared.root) == champion


def test_a_role_that_was_withdrawn_while_the_question_stood_promotes_nothing(
    asking: AppTest, compared: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = models_of(compared)[0]
    monkeypatch.setenv(VARIABLE, "viewer")
    asking.button(key="confirm promotion").click().run()
    assert models.champion(compared.root) == champion


def test_a_promotion_that_mlflow_cannot_follow_changes_nothing(compared: TestLake) -> None:
    champion, flattered, first = models_of(compared)
    row = {**models.find(compared.root, first), "uri": "models:/histolake/99"}
    with pytest.raises(ModelError, match="has no models:/histolake/99"):
        models.make_champion(compared.root, row, "test")
    with pytest.raises(ModelError, match="patch_random"):
        promote(compared.root, flattered)
    assert models.champion(compared.root) == champion


def test_the_reason_of_a_promotion_at_the_terminal_is_in_the_ledger_too(compared: TestLake) -> None:
    first = models_of(compared)[2]
    compared.ok("models", "promote", first, "--reason", "asked for")
    entry = compared.read("runs").filter(stage="settings").sort("finished_at").row(-1, named=True)
    assert json.loads(entry["parameters"]) == {"model_id": first, "reason": "asked for"}


def test_without_a_login_everybody_at_this_machine_is_an_admin_unless_another_role_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for peer, expected in ((None, Role.admin), ("127.0.0.2", Role.admin), ("192.168.1.8", None)):
        monkeypatch.setattr(type(st.context), "ip_address", peer)
        if expected:
            assert person().role is expected
        else:
            with pytest.raises(DeniedError, match="for its own machine alone"):
                person()
    monkeypatch.setattr(type(st.context), "ip_address", None)
    monkeypatch.setenv(VARIABLE, " Analyst ")
    assert person().role is Role.analyst
    monkeypatch.setenv(VARIABLE, "root")
    with pytest.raises(HistolakeError, match="HISTOLAKE_APP_ROLE=root: must be one of viewer, analyst, admin"):
        person()


def test_every_series_is_seen_on_the_paper_of_either_theme() -> None:
    themes = tomllib.loads((ROOT / "viewer/theme.toml").read_text(encoding="utf-8"))["theme"]
    for color in models_charts.COLORS:
        for paper in (themes[name]["backgroundColor"] for name in ("light", "dark")):
            assert contrast(rgb(color), rgb(paper)) >= 3, (color, paper)
    assert len({*models_charts.COLORS}) == len(models_charts.DASHES) == len(models_charts.SHAPES)


def test_the_letters_of_charts_on_a_light_page_can_be_read(open_page: Open, full_lake: TestLake) -> None:
    for chart in charts(open_page(full_lake.root, "models")):
        for part in ("axis", "legend", "header"):
            assert chart["config"][part]["labelColor"] == chart["config"][part]["titleColor"] == INK
    assert contrast(rgb(INK), (255, 255, 255)) >= AA_TEXT
