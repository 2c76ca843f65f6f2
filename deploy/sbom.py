"""Writes a CycloneDX bill of materials: `python deploy/sbom.py [FILE]`, by `make sbom`.

It has the locked packages with their hashes and licences, the browser's library, and the encoders' weights.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import licences
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from udfs.encoders import efficientnet_lite0, inception_v3

LICENCE = LicenseFactory()


def main() -> None:
    """Write the bill; exit status 1 when it is not what CycloneDX's schema says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=licences.ROOT / "dist/histolake.cdx.json")
    file: Path = parser.parse_args().file
    text = JsonV1Dot6(bill()).output_as_string(indent=2)
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"not as CycloneDX's schema says: {wrong}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(f"wrote {file}")


def bill() -> Bom:
    """All that an installation of histolake consists of, its tests and tools too."""
    lock, project = str(licences.LOCK), str(licences.ROOT / "pyproject.toml")
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", lock, "--pyproject", project]
    done = subprocess.run([*command, "--output-reproducible"], capture_output=True, text=True, check=True)  # noqa: S603
    found = Bom.from_json(json.loads(done.stdout))  # type: ignore[attr-defined]
    known = licences.licences()
    for component in found.components:
        component.description = None  # the lock's lines
        if licence := known.get(component.name.lower()):
            component.licenses.add(LICENCE.make_from_string(licence))
    added = [*vendored(), *weights()]
    found.components.update(added)
    found.register_dependency(found.metadata.component, added)
    return found


def vendored() -> Iterator[Component]:
    """The libraries in viewer/component/assets/vendor."""
    for name, library in tomllib.loads(licences.VENDORED.read_text(encoding="utf-8")).items():
        digest = base64.b64decode(library["integrity"].removeprefix("sha512-")).hex()
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=library["version"],
            bom_ref=f"{name}-in-the-browser",
            purl=PackageURL("npm", None, name, library["version"]),
            licenses=[LICENCE.make_from_string(library["license"])],
            hashes=[HashType(alg=HashAlgorithm.SHA_512, content=digest)],
        )


def weights() -> Iterator[Component]:
    """The files that the encoders are built from, as they were published."""
    published = (
        ("efficientnet_lite0", efficientnet_lite0.SOURCE, HashAlgorithm.SHA_256, efficientnet_lite0.WEIGHTS_SHA256),
        ("inception_v3", inception_v3.SOURCE, HashAlgorithm.MD5, inception_v3.WEIGHTS.md5),
    )
    for name, source, algorithm, digest in published:
        yield Component(
            type=ComponentType.MACHINE_LEARNING_MODEL,
            name=name,
            bom_ref=f"weights-of-{name}",
            description=f"weights: {source}",
            hashes=[HashType(alg=algorithm, content=digest)],
        )


if __name__ == "__main__":
    main()
