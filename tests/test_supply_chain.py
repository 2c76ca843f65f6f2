"""What is installed is what was locked, under licences that are allowed, and is told to who asks."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from support import ROOT, run
from test_docs import load
from test_layout import tracked

LOCKS = ["requirements.lock", "deploy/requirements.lock"]
licences = load(ROOT / "deploy/licences.py")


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_version_and_its_hashes_and_no_address(name: str) -> None:
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) > 100
    for line in lines:
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==[0-9][^\s;]*\s", line), line
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}(?=\s|$)", line)) >= 1, line
    assert not re.findall(r"https?://|--(?:extra-)?index-url|--find-links|--trusted-host|file:|git\+| @ ", text)


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """The licence of each locked package."""
    told: dict[str, str] = licences.licences()
    return told


@pytest.mark.slow
def test_every_dependency_has_a_licence_that_is_allowed(found: dict[str, str]) -> None:
    refused = {name: licence for name, licence in found.items() if not licences.is_allowed(name, licence)}
    assert not refused, "deploy/licences.toml does not allow these"


@pytest.mark.parametrize("licence", ["AGPL-3.0-only", "MIT AND GPL-3.0-or-later", "", "Proprietary", "MIT; SSPL-1.0"])
def test_another_licence_is_not_allowed(licence: str) -> None:
    assert not licences.is_allowed("a-new-package", licence)
    assert licences.is_allowed("a-new-package", "MIT OR (Apache-2.0 AND BSD-3-Clause)")


@pytest.mark.slow
def test_the_page_lists_what_is_locked_and_the_viewers_library(found: dict[str, str]) -> None:
    page = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"^\| ([a-z0-9._-]+)(?: \(in the browser\))? \| [^|]+ \| (?:histolake|tests)", page, re.MULTILINE)
    )
    assert listed == set(found) | {"openseadragon"}, "run `make licences` and commit what it writes"


@pytest.mark.slow
def test_reasons_are_given_for_all_that_is_judged_by_hand(found: dict[str, str]) -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, each in licences.rules()["packages"].items():
        assert name in found or f'"{name}>=' in declared, f"{name} is no longer needed: see deploy/licences.toml"
        assert len(each["reason"]) > 10, name


@pytest.mark.slow
def test_the_bill_of_materials_is_cyclonedx_and_has_libraries_hashes_and_weights(tmp_path: Path) -> None:
    file = tmp_path / "bill.json"
    command = [sys.executable, str(ROOT / "deploy/sbom.py"), str(file)]
    run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    text = file.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "histolake"
    parts = {each["name"].lower(): each for each in bill["components"]}
    assert set(parts) == licences.locked() | {"openseadragon", "efficientnet_lite0", "inception_v3"}
    for name in licences.locked():
        assert parts[name]["purl"].startswith(f"pkg:pypi/{name}@"), name
        assert parts[name]["licenses"], name
        hashes = [one for each in parts[name]["externalReferences"] for one in each.get("hashes", ())]
        assert {one["alg"] for one in hashes} == {"SHA-256"}, name
    assert parts["openseadragon"]["purl"] == "pkg:npm/openseadragon@6.1.1"
    for name in ("openseadragon", "efficientnet_lite0", "inception_v3"):
        assert parts[name]["hashes"], name


@pytest.mark.slow
def test_no_secret_is_committed() -> None:
    """The same scan as `make lint`."""
    files = [str(path.relative_to(ROOT)) for path in tracked()]
    command = [sys.executable, "-m", "detect_secrets.pre_commit_hook", "--baseline", ".secrets.baseline", *files]
    done = run(command)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_secret_would_be_found(tmp_path: Path) -> None:
    key = "".join(("AKIA", "IOSFODNN7", "EXAMPLF"))
    (tmp_path / "settings.py").write_text(f'KEY = "{key}"\n-----BEGIN {"RSA"} PRIVATE KEY-----\n')
    command = [sys.executable, "-m", "detect_secrets.pre_commit_hook", "--baseline", str(ROOT / ".secrets.baseline")]
    done = run([*command, "settings.py"], cwd=tmp_path)
    assert done.returncode == 1
    assert "AWS Access Key" in done.stdout
    assert "Private Key" in done.stdout
