"""Lists the licences of all that histolake needs in docs/licences.md: `python deploy/licences.py`, by `make licences`.

Exit status 1 when a package has a licence that deploy/licences.toml does not allow.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy/licences.toml"
PAGE = ROOT / "docs/licences.md"
LOCK, IMAGE = ROOT / "requirements.lock", ROOT / "deploy/requirements.lock"
VENDORED = ROOT / "viewer/component/vendor.toml"
OPERATORS = re.compile(r"\s+(?:AND|OR|WITH)\s+|[();]")
ABOUT = """# Licences

What histolake needs, and what its tests and tools need besides, with the licence that each package tells. `make
licences` writes this page from `requirements.lock`; a test fails when a licence is not among those that
`deploy/licences.toml` allows, and names the package. Where a package tells none, or needs a word, the reason stands
there too.
"""


def main() -> None:
    """Write the page."""
    found = licences()
    refused = {name: licence for name, licence in found.items() if not is_allowed(name, licence)}
    for name, licence in refused.items():
        print(f"{name}: {licence or 'tells no licence'}; see {RULES.relative_to(ROOT)}", file=sys.stderr)
    PAGE.write_text(page(found), encoding="utf-8")
    if refused:
        sys.exit(1)


def rules() -> dict[str, Any]:
    """What deploy/licences.toml says."""
    return tomllib.loads(RULES.read_text(encoding="utf-8"))


def locked(lock: Path = LOCK) -> set[str]:
    """The names of the packages in a lock."""
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", lock.read_text(encoding="utf-8"), re.MULTILINE))


def licences() -> dict[str, str]:
    """The licence of each locked package as SPDX writes it, where it can be told; empty for one that tells none."""
    told, written = rules(), _installed()
    found = {}
    for name in sorted(locked()):
        by_hand = told["packages"].get(name)
        found[name] = by_hand["licence"] if by_hand else told["names"].get(written.get(name, ""), written.get(name, ""))
    return found


def _installed() -> dict[str, str]:
    """What installed packages tell, by normalized name."""
    command = [sys.executable, "-m", "piplicenses", "--python", sys.executable, "--format=json", "--with-system"]
    done = subprocess.run([*command, "--from=mixed"], capture_output=True, text=True, check=True)  # noqa: S603
    rows = json.loads(done.stdout)
    return {re.sub(r"[-_.]+", "-", row["Name"]).lower(): " ".join(row["License"].split()) for row in rows}


def is_allowed(name: str, licence: str) -> bool:
    """Whether all that a licence consists of is allowed, or the package is let pass by name."""
    told = rules()
    parts = [part.strip() for part in OPERATORS.split(licence) if part.strip()]
    return name in told["packages"] or bool(parts and set(parts) <= set(told["allowed"]))


def page(found: dict[str, str]) -> str:
    """The page, of these licences."""
    image, told = locked(IMAGE), rules()["packages"]
    lines = [ABOUT, "| package | licence | needed by |", "| --- | --- | --- |"]
    for name, library in tomllib.loads(VENDORED.read_text(encoding="utf-8")).items():
        lines.append(f"| {name} (in the browser) | {library['license']} | histolake |")
    lines += [f"| {n} | {found[n]} | {'histolake' if n in image else 'tests and tools'} |" for n in found]
    lines += ["", "## By hand", "", "| package | reason |", "| --- | --- |"]
    lines += [f"| {name} | {each['reason']} |" for name, each in sorted(told.items()) if name in found]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
