"""What the commands print, for people and for programs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from support import ROOT, RUN_S, TestLake, run, run_command, write_slide

import lake
from udfs.errors import HistolakeError, LakeError


def test_sql_prints_every_format(full_lake: TestLake) -> None:
    query = "select slide_id, split from slides where slide_id like 'tumor%' order by slide_id limit 2"
    assert full_lake.ok("sql", query, "--format", "csv").out == "slide_id,split\ntumor_1,train\ntumor_2,train\n"
    nested = "select [1, null] as list, {'a': 'x'} as struct, '\\xFF'::blob as bytes"
    assert full_lake.ok("sql", nested, "--format", "csv").out == 'list,struct,bytes\n"[1, null]","{""a"": ""x""}",ff\n'
    assert full_lake.ok("sql", query, "--format", "json").json()[1] == {"slide_id": "tumor_2", "split": "train"}
    assert "tumor_2" in full_lake.ok("sql", query).out
    words = [sys.executable, "-m", "lake", "sql", query, "--format", "parquet", "--lake", str(full_lake.root)]
    parquet = subprocess.run(words, cwd=ROOT, capture_output=True, check=True, timeout=RUN_S).stdout
    assert pl.read_parquet(io.BytesIO(parquet)).height == 2


@pytest.mark.parametrize(("columns", "is_whole"), [(None, True), ("40", False)])
def test_a_table_is_folded_for_a_terminal_and_whole_in_a_file(
    full_lake: TestLake, columns: str | None, is_whole: bool
) -> None:
    query = "select repeat('long', 20) as first, repeat('wide', 20) as second"
    words = [sys.executable, "-m", "lake", "sql", query, "--lake", str(full_lake.root)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    if columns:
        environment["COLUMNS"] = columns
    out = run(words, env=environment, check=True).stdout
    assert (f"{'long' * 20} │ {'wide' * 20}" in out) == is_whole


def test_sql_without_a_query_lists_tables_views_and_functions(full_lake: TestLake) -> None:
    out = full_lake.ok("sql").out
    for word in ("features", "current_predictions", "tissue_fraction(", "embed(", "predict(", "[x, y, width, height]"):
        assert word in out


def test_sql_calls_the_pixel_functions_the_encoder_and_the_model(full_lake: TestLake) -> None:
    query = """
        with images as (
            select f.x, f.embedding, f.encoder_id, crop(s.path, f.x, f.y, p.span_x, p.span_y, 16) as image
            from features as f
            inner join slides as s using (slide_id)
            inner join patches as p using (slide_id, patch_set, x, y)
            where slide_id = 'tumor_1'
        )
        select
            max(list_distance(embed(encoder_id, image.pixels), embedding)) as off,
            max(abs(predict((select model_id from models), embedding) - 0.5)) as decided
        from images
    """
    row = full_lake.ok("sql", query, "--format", "json").json()[0]
    assert row["off"] < 1e-6
    assert 0.3 < row["decided"] <= 0.5


def test_sql_reads_an_older_version(full_lake: TestLake) -> None:
    count = "select count(*) as n from features"
    assert full_lake.ok("sql", count, "--at", "features=0", "--format", "json").json() == [{"n": 0}]
    assert full_lake.ok("sql", count, "--format", "json").json()[0]["n"] > 0


def test_trace_prints_the_statements_and_the_whole_error(
    full_lake: TestLake, capfd: pytest.CaptureFixture[str]
) -> None:
    """DuckDB writes the statements, to what the process has for stderr; an error goes through to Python's end."""
    assert "from current_labels" not in full_lake.ok("check", "--trace").out
    assert "having count(*) > 1" in capfd.readouterr().err
    with pytest.raises(HistolakeError, match="sql: "):
        full_lake("sql", "select 1 +", "--trace")


def test_history_tells_versions_newest_first(full_lake: TestLake) -> None:
    commits = full_lake.ok("history", "features", "--json").json()
    assert [commit["version"] for commit in commits] == [1, 0]
    assert commits[0]["units"] == 6
    assert commits[0]["rows"] == full_lake.read("features").height
    newest = full_lake.ok("history", "--json").json()
    assert {commit["table"]: commit["version"] for commit in newest} == full_lake.versions()


def test_optimize_and_vacuum_change_no_answer(full_lake: TestLake, slides: Path) -> None:
    write_slide(slides / "late.tif")
    full_lake.ok("ingest", str(slides / "late.tif"))
    full_lake.ok("run", *full_lake.tiling)
    before = full_lake.ok("sql", "select * from features order by all", "--format", "json").out
    full_lake.ok("optimize")
    full_lake.ok("vacuum", "--keep-hours", "0")
    assert full_lake.ok("sql", "select * from features order by all", "--format", "json").out == before
    assert all(stage["units"] == 0 for stage in full_lake.ok("run", *full_lake.tiling, "--json").json())
    full_lake.ok("check")


def test_encoders_are_listed_and_added(lake: TestLake, tiny_onnx: Path) -> None:
    answer = lake.ok("encoders", "add", "second", "--onnx", str(tiny_onnx), "--mean", "127,127,127", "--std", "128")
    assert "16 px in, 6 features out, fp32 by" in answer.err
    rows = {row["name"]: row for row in lake.ok("encoders", "list", "--json").json()}
    assert rows["second"]["state"] == "in the lake"
    assert rows["second"]["dims"] == 6
    assert rows["second"]["encoder_id"] != rows["tiny"]["encoder_id"]
    assert rows["inception_v3"]["dims"] == 2048
    assert rows["efficientnet_lite0"]["state"] == "at hand"


def test_an_encoder_with_weights_in_files_beside_it_is_kept_whole(
    full_lake: TestLake, tiny_onnx: Path, tmp_path: Path
) -> None:
    model = onnx.load(tiny_onnx)
    node = onnx.helper.make_node("Mul", ["features", "factor"], ["scaled"])
    model.graph.node.append(node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((1, 6), 3.0, np.float32), "factor"))
    model.graph.output[0].name = "scaled"
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    full_lake.ok("encoders", "add", "large", "--onnx", str(tmp_path / "net.onnx"), "--scale", "0.00392156862745098")
    for name in ("net.onnx", "net.data"):
        (tmp_path / name).unlink()
    full_lake.ok("run", *full_lake.tiling[:-1], "large")
    rows = full_lake.read("features").with_columns(pl.col("encoder_id").str.split("-").list.first().alias("name"))
    means = dict(rows.group_by("name").agg(pl.col("embedding").list.first().mean()).rows())
    assert means["large"] == pytest.approx(3 * means["tiny"], rel=1e-5)


def test_a_changed_encoder_makes_only_its_units_missing(full_lake: TestLake, tiny_onnx: Path) -> None:
    full_lake.ok("encoders", "add", "second", "--onnx", str(tiny_onnx), "--mean", "10")
    done = full_lake.ok("run", *full_lake.tiling[:-1], "second", "--json").json()
    assert {stage["stage"]: stage["units"] for stage in done} == {"patches": 0, "features": 6, "labels": 0}
    assert full_lake.read("features")["encoder_id"].n_unique() == 2


def test_the_lake_keeps_its_first_choice_of_encoder(full_lake: TestLake) -> None:
    from lake import encoders, store

    store.put(
        full_lake.root, "settings", [{"name": "encoder_id", "value": full_lake.read("encoders")["encoder_id"][0]}], "t"
    )
    spec, why = encoders.choose(full_lake.root, "auto", "t")
    assert (spec.name, why) == ("tiny", "the lake uses it")


def test_an_ambiguous_tiling_is_an_error_that_lists_the_choices(lake: TestLake, tmp_path: Path) -> None:
    write_slide(tmp_path / "one.tif")
    lake.ok("ingest", str(tmp_path / "one.tif"))
    for mpp in ("1", "2"):
        lake.ok("run", "--patch-px", "64", "--mpp", mpp, "--encoder", "tiny")
    answer = lake("train", "--encoder", "tiny")
    assert answer.status == 1
    assert "grid-64px-1mpp" in answer.err
    assert "grid-64px-2mpp" in answer.err


def test_python_reads_what_sql_reads(full_lake: TestLake) -> None:
    frame = lake.read("current_predictions", full_lake.root)
    assert frame.height == full_lake.read("predictions").height
    with pytest.raises(LakeError, match="no table 'nothing'"):
        lake.read("nothing", full_lake.root)
    picture = lake.show(lake.connect(full_lake.root).sql("select * from slide_patches limit 3").pl(), mpp=[1, 2])
    assert picture.mode == "RGB"


def test_only_the_functions_asked_for_are_there(full_lake: TestLake) -> None:
    con = lake.connect(full_lake.root, udfs=["tissue_fraction"])
    assert con.sql("select function_name from functions").fetchall() == [("tissue_fraction",)]
    with pytest.raises(LakeError, match="no function 'magic'"):
        lake.connect(full_lake.root, udfs=["magic"])


def test_connecting_and_reading_loads_neither_encoder_nor_mlflow(full_lake: TestLake) -> None:
    code = (
        "import sys, lake; lake.connect(sys.argv[1]).sql('select count(*) from slide_features').fetchall();"
        "print(sorted({'onnxruntime', 'mlflow', 'sklearn', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, str(full_lake.root)]
    done = run(words, check=True)
    assert "onnxruntime" not in done.stdout
    assert "mlflow" not in done.stdout
    assert "sklearn" not in done.stdout


def test_help_shows_an_example_for_every_command() -> None:
    for words in (["ingest"], ["run"], ["train"], ["predict"], ["evaluate"], ["heatmap"], ["show"], ["demo"], ["sql"],
                  ["check"], ["history"], ["optimize"], ["vacuum"], ["maintain"],
                  ["app"], ["encoders", "add"]):  # fmt: skip
        answer = run_command(*words, "--help")
        assert answer.status == 0
        assert f"histolake {' '.join(words)}" in answer.out


def test_the_environment_names_the_lake(full_lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOLAKE_LAKE", str(full_lake.root))
    answer = run_command("sql", "select count(*) as n from slides", "--format", "json")
    assert json.loads(answer.out) == [{"n": 6}]
