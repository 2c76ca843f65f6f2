"""What the slide viewer's component ships, and that Streamlit finds it."""

from __future__ import annotations

import hashlib
import re
import tomllib

import matplotlib
import pytest
from support import ROOT

COMPONENT = ROOT / "viewer" / "component"
ASSETS = COMPONENT / "assets"


def test_the_library_is_the_one_that_was_fetched_by_npm() -> None:
    [(name, library)] = tomllib.loads((COMPONENT / "vendor.toml").read_text()).items()
    for file, sha256 in library["files"].values():
        assert hashlib.sha256((ASSETS / "vendor" / file).read_bytes()).hexdigest() == sha256
    assert sorted(path.name for path in (ASSETS / "vendor").iterdir()) == sorted(
        file for file, _ in library["files"].values()
    )
    assert f"{name} {library['version']}" in (ASSETS / "vendor" / "openseadragon.min.js").read_text()[:100]


def test_nothing_is_fetched_from_another_server() -> None:
    for path in ASSETS.glob("*"):
        if path.is_file():
            assert not re.search(r"https?://|//cdn", path.read_text()), path


def test_modules_import_only_each_other_and_the_library() -> None:
    for path in ASSETS.glob("*.js"):
        for target in re.findall(r"""^import .*?["'](.+?)["'];""", path.read_text(), re.MULTILINE):
            assert target.startswith("./")
            assert (ASSETS / target).is_file(), f"{path.name} imports {target}"


def test_streamlit_finds_the_component() -> None:
    from streamlit.components.v2.manifest_scanner import scan_component_manifests

    found = {manifest.name: (manifest, root) for manifest, root in scan_component_manifests()}
    manifest, root = found["histolake"]
    assert [each.name for each in manifest.components] == ["viewer"]
    assert (root / manifest.components[0].asset_dir / "viewer.js").is_file()


@pytest.mark.parametrize("name", ["viridis", "cividis", "inferno"])
def test_a_colormap_is_matplotlibs(name: str) -> None:
    text = (ASSETS / "colormaps.js").read_text()
    [block] = re.findall(rf"{name}:\n(.*?),\n(?:  \w|}};)", text, re.DOTALL)
    expected = matplotlib.colormaps[name](range(256), bytes=True)[:, :3].tobytes().hex()
    assert "".join(re.findall(r'"([0-9a-f]+)"', block)) == expected


def test_the_project_and_the_component_carry_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    component = tomllib.loads((COMPONENT / "pyproject.toml").read_text())["project"]
    assert component == {"name": project["name"], "version": project["version"]}
