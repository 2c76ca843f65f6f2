"""The command that looks over a machine and a lake."""

from __future__ import annotations

import sys
from dataclasses import asdict

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, example
from lake.cli_output import IS_ON_SCREEN, print_json, print_table, say


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command(**example("histolake doctor --lake data"))(doctor)


def doctor(as_json: AsJson = False, lake: Lake = None) -> None:
    """Check this machine and the lake: each line ok, warning or error with what to do; exit status 1 on an error.

    Writes a small file where the lake is and removes it; changes nothing else.
    """
    from lake.doctor import Finding, examine
    from lake.doctor_notes import Status

    findings: list[Finding] = []
    for each in examine(lake_path(lake)):
        findings.append(each)
        if not as_json and not IS_ON_SCREEN:
            told = f"{each.message}; {each.remedy}" if each.remedy else each.message
            sys.stdout.write(f"{each.status:8} {each.check:14} {told}\n")
    if as_json:
        print_json([asdict(each) for each in findings])
    elif IS_ON_SCREEN:
        print_table(("", "check", "found", "to do"), [(e.status, e.check, e.message, e.remedy) for e in findings])
    counts = {status: sum(each.status is status for each in findings) for status in Status}
    if not as_json:
        say(f"{counts[Status.ok]} ok, {counts[Status.warning]} warnings, {counts[Status.error]} errors")
    if counts[Status.error]:
        raise typer.Exit(1)
