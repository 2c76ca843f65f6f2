"""Fetches the viewer's browser library by npm, and puts it in place if it is what vendor.toml says: see Makefile."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = HERE / "assets" / "vendor"


def main() -> None:
    """Fetch every library of vendor.toml. Exits with a sentence when one is not what it says."""
    for name, library in tomllib.loads((HERE / "vendor.toml").read_text(encoding="utf-8")).items():
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", "--silent", f"{name}@{library['version']}"]
            packed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout  # noqa: S603
            archive = Path(folder) / packed.split()[-1]
            digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            _refuse_other(archive.name, digest, library["integrity"])
            _unpack(archive, library["files"])


def _unpack(archive: Path, files: dict[str, tuple[str, str]]) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for inside, (name, sha256) in files.items():
            member = tar.extractfile(inside)
            content = member.read() if member else b""
            _refuse_other(inside, hashlib.sha256(content).hexdigest(), sha256)
            (PLACE / name).write_bytes(content)


def _refuse_other(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        sys.exit(f"{what} is {found}, not {wanted} as vendor.toml says; nothing of it was put in place")


if __name__ == "__main__":
    main()
