"""Commands on the lake itself: SQL, checks, encoders, the app."""

from __future__ import annotations

import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lake.choices import lake_path, tracing
from lake.cli_options import AsJson, Lake, Trace
from lake.cli_output import print_frame, print_json, print_table, say
from udfs.errors import HistolakeError, LakeError

if TYPE_CHECKING:
    from lake.session import Connection

PRIVATE = (
    *("--server.showEmailPrompt", "false", "--server.maxUploadSize", "1"),
    *("--browser.gatherUsageStats", "false", "--client.showErrorLinks", "false"),
)
THEME = ("--theme.base", "viewer/theme.toml")

encoders = typer.Typer(help="List, fetch and add encoders.", no_args_is_help=True)


class Format(StrEnum):
    """How `histolake sql` prints."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="""Example:  `histolake sql "select split, count(*) from slides group by split"`""")(sql)
    app.command(epilog="Example:  `histolake check`")(check)
    app.add_typer(encoders, name="encoders")
    app.command(name="app", epilog="Example:  `histolake app --lake data`")(open_app)


def is_tracing() -> bool:
    """Whether --trace was given."""
    return tracing.on


def sql(
    query: Annotated[
        str | None, typer.Argument(help="A statement; without one, tables and functions are listed.")
    ] = None,
    format: Annotated[Format, typer.Option(help="parquet goes to stdout: redirect it into a file.")] = Format.table,
    at: Annotated[
        list[str] | None, typer.Option(metavar="TABLE=VERSION", help="Read an older version of a table.")
    ] = None,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Query the lake with DuckDB's SQL, the pixel functions included."""
    import duckdb

    from lake import session
    from lake.compute import reason
    from lake.csv_text import as_csv
    from lake.storage_faults import read_failure

    with session.connect(lake, at=dict(_version(text) for text in at or ())) as con:
        if query is None:
            _list_contents(con)
            return
        try:
            relation = con.sql(query)
            frame = relation.pl() if relation is not None else None
        except duckdb.Error as error:
            raise (read_failure(error) or HistolakeError(f"sql: {reason(error)}")) from error
    if frame is None:
        return
    if format is Format.table:
        print_frame(frame)
    elif format is Format.csv:
        sys.stdout.write(as_csv(frame))
    elif format is Format.json:
        print_json(frame.to_dicts())
    elif sys.stdout.isatty():
        raise HistolakeError(
            "sql: parquet is not for a terminal; redirect it: histolake sql … --format parquet > x.parquet"
        )
    else:
        frame.write_parquet(sys.stdout.buffer)


def _version(text: str) -> tuple[str, int]:
    table, _, number = text.partition("=")
    if not number.isdigit():
        raise LakeError(f"--at {text}: must be TABLE=VERSION, e.g. features=3; `histolake history features` lists them")
    return table, int(number)


def _list_contents(con: Connection) -> None:
    tables = con.execute("select table_name, version from snapshot order by table_name").fetchall()
    views = con.execute("select view_name from duckdb_views() where not internal order by view_name").fetchall()
    names = [name for name, _ in tables]
    rows = [(name, version, con.table(name).aggregate("count(*)").fetchall()[0][0]) for name, version in tables]
    print_table(("table", "version", "rows"), rows)
    print_table(("view",), [row for row in views if row[0] not in names])
    functions = con.execute("select signature, about from functions order by function_name").fetchall()
    print_table(("function", "about"), functions)


def check(as_json: AsJson = False, lake: Lake = None, trace: Trace = False) -> None:
    """Run every promise in sql/checks; exit status 1 when one is broken."""
    from lake.checks import check as run_checks

    checks = run_checks(lake_path(lake))
    if as_json:
        print_json(
            [
                {"name": c.name, "about": c.about, "notice": c.is_notice, "violations": c.violations.to_dicts()}
                for c in checks
            ]
        )
    else:
        rows = [
            (c.name, "BROKEN" if c.is_broken else "notice" if c.violations.height else "kept", c.violations.height)
            for c in checks
        ]
        print_table(("promise", "state", "rows"), rows)
        for each in checks:
            if each.violations.height:
                say(f"{each.name}: {each.about}")
                print_frame(each.violations, most=10)
    if any(each.is_broken for each in checks):
        raise typer.Exit(1)


@encoders.command("list", epilog="Example:  `histolake encoders list`")
def list_encoders(as_json: AsJson = False, lake: Lake = None) -> None:
    """The encoders of the lake, and those that can be had."""
    from lake import store
    from udfs.encoders import catalog

    root = lake_path(lake)
    own = store.rows(root, "encoders").to_dicts() if store.is_lake(root) else []
    rows = [{**row, "state": "in the lake"} for row in own]
    names = {row["name"] for row in own}
    for name, built_in in catalog.BUILT_IN.items():
        if name not in names:
            state = "at hand" if catalog.available(name) else "to be fetched"
            rows.append(
                {"encoder_id": None, "name": name, "precision": built_in.precision}
                | {"input_px": built_in.input_px, "dims": built_in.dims, "state": state, "source": built_in.source}
            )
    if as_json:
        print_json(rows)
        return
    columns = ("name", "state", "encoder_id", "precision", "input_px", "dims", "source")
    print_table(columns, [[row.get(column) for column in columns] for row in rows])


@encoders.command("pull", epilog="Example:  `histolake encoders pull inception_v3`")
def pull_encoder(name: Annotated[str, typer.Argument(help="A built-in encoder.")], lake: Lake = None) -> None:
    """Fetch an encoder's weights, verify and convert them; keep the file for all lakes of this machine."""
    from udfs.encoders import catalog

    if name not in catalog.BUILT_IN:
        raise HistolakeError(f"encoders pull {name}: no such encoder; built in are {', '.join(catalog.BUILT_IN)}")
    spec, file = catalog.prepare(name)
    say(f"{spec.encoder_id} is ready: {file}")


@encoders.command(
    "add",
    epilog="Example:  `histolake encoders add uni --onnx uni.onnx --mean 123.7,116.3,103.5 --std 58.4,57.1,57.4`",
)
def add_encoder(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    onnx: Annotated[Path, typer.Option(help="The network: (n,3,h,w) or (n,h,w,3) in, features out.")],
    scale: Annotated[float, typer.Option(help="Factor for bytes 0 to 255, before mean and std.")] = 1.0,
    mean: Annotated[str, typer.Option(help="One number or three, subtracted.")] = "0",
    std: Annotated[str, typer.Option(help="One number or three, divided by.")] = "1",
    input_px: Annotated[int | None, typer.Option(help="Edge of the input, where the file leaves it open.")] = None,
    precision: Annotated[str, typer.Option(help="Arithmetic to compute in: fp32, bf16, fp16 or int8.")] = "fp32",
    lake: Lake = None,
) -> None:
    """Add an encoder of your own to the lake, from an ONNX file."""
    from lake import creation, store
    from lake.encoders import add
    from udfs.encoders.trial import tried

    root = lake_path(lake)
    preprocessing = {"scale": scale, "mean": _numbers("--mean", mean), "std": _numbers("--std", std)}
    facts = {"preprocessing": preprocessing, "precision": precision, "source": onnx.name, "input_px": input_px}
    spec, provider = tried(name, onnx, **facts)  # type: ignore[arg-type]
    creation.create(root)
    add(root, spec, onnx, store.new_run_id())
    say(f"{spec.encoder_id}: {spec.input_px} px in, {spec.dims} features out, {precision} by {provider}")


def _numbers(option: str, text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise HistolakeError(f"{option} {text}: must be one number, or three separated by commas")
    return numbers[0] if len(numbers) == 1 else numbers


def open_app(
    port: Annotated[int, typer.Option(help="Of the page.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this machine's own needs a login.")
    ] = "127.0.0.1",
    lake: Lake = None,
) -> None:
    """Open the app: worklist, deep-zoom viewer, models, SQL and lineage in the browser.

    It listens on this machine alone, unless people log in: docs/app.md tells how that is configured.
    """
    page = Path(__file__).resolve().parent.parent / "app.py"
    command = [sys.executable, "-m", "streamlit", "run", page.name, "--server.port", str(port)]
    command += ["--server.address", host, *PRIVATE, *THEME]
    environment = {**os.environ, "HISTOLAKE_LAKE": str(lake_path(lake))}
    # in the folder of app.py, whose .streamlit/config.toml, in a checkout, Streamlit reads too
    raise typer.Exit(subprocess.call(command, cwd=page.parent, env=environment))  # noqa: S603 (our own words)
