"""What people do in the app is recorded before it is done; what cannot be recorded is not done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import streamlit as st
from audit_writers import full_disk
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest
from support import TestLake
from viewer_support import Open, words

from lake import store
from lake.audit_reading import verify
from lake.choices import Role
from udfs.errors import AuditError
from viewer import admissions, audited, slides, sql_page
from viewer.models_promotion import promote
from viewer.person import person
from viewer.reading import Lake
from viewer.roles import VARIABLE, DeniedError, deny
from viewer.routes import ROUTES

pytestmark = pytest.mark.slow

UNDONE = "It was not done, for it cannot be recorded"


@pytest.fixture(autouse=True)
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is an admin."""
    monkeypatch.setenv(VARIABLE, "admin")


def told(root: Path, action: str) -> list[dict[str, Any]]:
    """The rows of that action, with what is JSON in them parsed."""
    rows = store.rows(root, "audit").sort("sequence").filter(action=action).to_dicts()
    assert verify(root).problems == []
    return [{**row, "versions": json.loads(row["versions"]), "details": json.loads(row["details"])} for row in rows]


def moment(root: Path) -> dict[str, int]:
    return {"runs": store.open_table(root, "runs").version()}


@pytest.fixture
def lake(full_lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The finished lake as a page that is not shown sees it."""
    slides.forget()
    monkeypatch.setenv("HISTOLAKE_LAKE", str(full_lake.root))
    st.session_state.pop(audited.NOT_SAVED, None)
    return Lake(str(full_lake.root), moment(full_lake.root)["runs"])


@pytest.fixture
def client(lake: Lake) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=ROUTES)) as client:
        yield client


# -- slides


def test_a_slide_is_opened_once_for_a_visit_and_moment(open_page: Open, full_lake: TestLake) -> None:
    root = full_lake.root
    app = open_page(root, "viewer", slide="tumor_4")
    app.run()
    [row] = told(root, "opened")
    assert (row["slide_id"], row["via"], row["versions"]) == ("tumor_4", "app", moment(root))
    assert (row["subject"], row["name"], row["role"]) == (person().subject, person().name, "admin")
    app.query_params["slide2"] = "normal_1"
    app.run()
    assert [row["slide_id"] for row in told(root, "opened")] == ["tumor_4", "normal_1"]
    store.put(root, "settings", [{"name": "a", "value": "b"}], "test")
    app.run()
    assert len(told(root, "opened")) == 2  # the page shows the moment that it showed
    [refresh] = [button for button in app.button if button.key == "refresh"]
    refresh.click().run()
    assert [row["versions"] for row in told(root, "opened")][2:] == [moment(root)] * 2
    open_page(root, "viewer", slide="tumor_4")  # another visit
    assert len(told(root, "opened")) == 5


def test_a_slide_that_cannot_be_recorded_is_not_shown(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "worklist")
    app.switch_page("../pages/viewer.py")
    app.query_params["slide"] = "tumor_4"
    with full_disk():
        app.run()
    assert UNDONE in words(app)
    assert not app.get("bidi_component")
    assert told(full_lake.root, "opened") == []
    app.run()
    assert UNDONE not in words(app)
    assert app.get("bidi_component")
    assert len(told(full_lake.root, "opened")) == 1


def test_a_verdict_that_cannot_be_recorded_is_not_kept_and_the_page_says_so(
    open_page: Open, full_lake: TestLake
) -> None:
    highest = full_lake.read("predictions").filter(slide_id="tumor_4").sort("probability").row(-1, named=True)
    app = open_page(full_lake.root, "viewer", slide="tumor_4")
    app.session_state["asked_patch"] = {name: highest[name] for name in ("slide_id", "model_id", "patch_set", "x", "y")}
    app.run()
    app.text_input[1].set_value("Ada")
    with full_disk():
        app.button[0].click().run()
    assert UNDONE in words(app)
    assert not app.exception
    assert app.get("bidi_component")
    assert full_lake.read("reviews").is_empty()


# -- statements


def ask(app: AppTest, statement: str) -> AppTest:
    app.text_area(key=sql_page.STATEMENT).set_value(statement)
    [run] = [button for button in app.button if button.label == "Run"]
    run.click().run()
    if sql_page.RUNNING in app.session_state:
        app.session_state[sql_page.RUNNING].wait(90)
        app.run()
    return app


def test_a_statement_and_its_outcome_are_recorded(open_page: Open, full_lake: TestLake) -> None:
    app = ask(open_page(full_lake.root, "sql"), "select slide_id from slides")
    app.run()
    [asked], [answered] = told(full_lake.root, "queried"), told(full_lake.root, "answered")
    assert asked["object"] == answered["object"] == "select slide_id from slides"
    assert asked["sequence"] + 1 == answered["sequence"]
    assert answered["details"] == {"outcome": "answered", "rows": 6, "cut": None}
    assert answered["versions"]["slides"] == full_lake.versions()["slides"]
    ask(app, "select * from read_text('/etc/passwd')")
    assert "read_text cannot be used" in told(full_lake.root, "answered")[1]["details"]["outcome"]
    assert len(app.dataframe) == 0


def test_a_statement_that_cannot_be_recorded_does_not_run(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql")
    app.text_area(key=sql_page.STATEMENT).set_value("select slide_id from slides")
    [run] = [button for button in app.button if button.label == "Run"]
    with full_disk():
        run.click().run()
    assert UNDONE in words(app)
    assert sql_page.RUNNING not in app.session_state
    assert told(full_lake.root, "queried") == []


def test_an_answer_that_cannot_be_recorded_is_not_shown(open_page: Open, full_lake: TestLake) -> None:
    app = ask(open_page(full_lake.root, "sql"), "select slide_id from slides")
    assert len(app.dataframe) == 1
    del app.session_state[sql_page.RECORDED]
    with full_disk():
        app.run()
    assert UNDONE in words(app)
    assert not app.dataframe
    app.run()
    assert len(app.dataframe) == 1


# -- files


def test_a_download_is_recorded_when_it_is_clicked(lake: Lake, full_lake: TestLake) -> None:
    made = audited.recorded_download(lake, "rows.csv", {"rows": 3}, lambda: b"a file")
    assert told(full_lake.root, "exported") == []
    assert made() == made() == b"a file"
    first, _ = told(full_lake.root, "exported")
    assert (first["object"], first["details"], first["versions"]) == ("rows.csv", {"rows": 3}, moment(full_lake.root))
    with full_disk(), pytest.raises(AuditError):
        made()
    [why] = audited.take_not_saved()
    assert UNDONE in why
    assert audited.take_not_saved() == []


def test_a_download_is_for_who_still_has_the_role(
    lake: Lake, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = audited.recorded_download(lake, "rows.csv", {"rows": 3}, lambda: b"a file")
    monkeypatch.setenv(VARIABLE, "viewer")
    with pytest.raises(DeniedError, match=r"only the role admin may save rows\.csv"):
        made()
    assert told(full_lake.root, "exported") == []
    assert told(full_lake.root, "denied")[-1]["object"] == "save rows.csv"
    assert "only the role admin" in audited.take_not_saved()[0]


def test_a_file_for_qupath_and_a_view_are_recorded_each_time(client: TestClient, full_lake: TestLake) -> None:
    model = full_lake.read("models")["model_id"][0]
    for _ in range(2):
        assert client.get("/histolake/hotspots/tumor_4").headers["Cache-Control"] == "no-store"
        answer = client.post(f"/histolake/saving/tumor_4?model={model}")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (204, "no-store")
    rows = told(full_lake.root, "exported")
    assert [(row["slide_id"], row["object"]) for row in rows] == [
        ("tumor_4", "hotspots.geojson"),
        ("tumor_4", "view.png"),
    ] * 2
    assert {row["details"]["model_id"] for row in rows} == {model}
    assert client.get("/histolake/saving/tumor_4").status_code == 405
    assert client.post("/histolake/saving/nothing").status_code == 404
    with full_disk():
        refused = client.get("/histolake/hotspots/tumor_4"), client.post("/histolake/saving/tumor_4")
    for each in refused:
        assert each.status_code == 500
        assert UNDONE in each.json()["error"]
    assert len(told(full_lake.root, "exported")) == 4


# -- decisions and denials


def test_a_promotion_names_the_admin(lake: Lake, compared: TestLake) -> None:
    champion = store.setting(compared.root, "champion")
    other = compared.read("models").filter(pl.col("model_id") != champion, protocol="by_slide")["model_id"][0]
    promote(compared.root, other, "fewer false positives")
    row = told(compared.root, "promoted")[-1]
    assert (row["object"], row["via"], row["role"]) == (other, "app", "admin")
    assert row["details"] == {"before": champion, "reason": "fewer false positives"}
    with full_disk(), pytest.raises(AuditError, match="It was not done"):
        promote(compared.root, str(champion))
    assert store.setting(compared.root, "champion") == other


def test_a_denial_is_recorded_and_stands_in_any_case(
    lake: Lake, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "_counted", {})
    with pytest.raises(DeniedError, match="why not"):
        deny("ada", "open the door", "why not")
    [row] = told(full_lake.root, "denied")
    assert (row["subject"], row["object"], row["details"]) == ("ada", "open the door", {"why": "why not"})
    with full_disk(), pytest.raises(DeniedError, match="why not"):
        deny("ada", "open the door", "why not")
    assert len(told(full_lake.root, "denied")) == 1
    monkeypatch.setenv("HISTOLAKE_APP_ROLE", "viewer")
    with pytest.raises(DeniedError):
        person().require(Role.admin, "make a model the champion")
    assert told(full_lake.root, "denied")[-1]["object"] == "make a model the champion"


def test_of_one_who_asks_on_and_on_so_many_denials_are_recorded(
    lake: Lake, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "_counted", {})
    monkeypatch.setattr(admissions, "MOST", 3)
    for _ in range(10):
        admissions.record_denial("mallory", "a tile", "no token")
    admissions.record_denial("ada", "a page", "no role")
    assert [row["subject"] for row in told(full_lake.root, "denied")] == ["mallory"] * 3 + ["ada"]
    monkeypatch.setattr(admissions, "WINDOW_S", 0.0)  # a minute later
    admissions.record_denial("mallory", "a tile", "no token")
    assert told(full_lake.root, "denied")[-1]["details"] == {"why": "no token", "left_out": 7}


def test_logins_are_recorded_and_without_a_record_nobody_is_let_in(lake: Lake, full_lake: TestLake) -> None:
    claims = {"sub": "s-1", "name": "Ada", "email": "ada@example.org"}
    assert admissions.record_login(claims) is None
    admissions.record_logout(claims)
    [came], [left] = told(full_lake.root, "logged in"), told(full_lake.root, "logged out")
    for row in (came, left):
        assert (row["subject"], row["name"], row["role"], row["via"]) == ("s-1", "Ada", None, "app")
    with full_disk():
        why = admissions.record_login(claims)
        admissions.record_logout(claims)
    assert why is not None
    assert UNDONE in why
    assert len(told(full_lake.root, "logged in")) == len(told(full_lake.root, "logged out")) == 1
