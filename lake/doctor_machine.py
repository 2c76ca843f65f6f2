"""Whether this machine has what histolake needs: versions, processors, memory, files, disk."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from lake import cgroups, storage
from lake.doctor_notes import Note, error, ok, warning
from udfs.cache_folder import cache_dir
from udfs.processors import cores

GB = 10**9
LEAST_MEMORY, GOOD_MEMORY = 2 * GB, 4 * GB  # docs/performance.md: `histolake run` peaks at 1.1 GB, training at 2.3
LEAST_DISK, GOOD_DISK = GB, 10 * GB
LEAST_FILES, GOOD_FILES = 256, 1024  # DuckDB opens the Parquet files of a query side by side
INSTALL = "install what requirements.lock names: `make install`, or pip install --require-hashes -r requirements.lock"


def python(_: Path) -> Iterator[Note]:
    """The interpreter's version against the range of pyproject.toml, and its word size."""
    from packaging.specifiers import SpecifierSet

    wanted = metadata.metadata("histolake")["Requires-Python"]
    version = platform.python_version()
    if version not in SpecifierSet(wanted, prereleases=True):
        yield error(f"Python {version}, {wanted} is needed", "make the virtual environment with a newer Python")
    elif sys.maxsize < 2**32:
        yield error(f"Python {version} of 32 bits", "install a Python of 64 bits: slides are larger than its memory")
    else:
        yield ok(f"Python {version}, {platform.machine()}, histolake {metadata.version('histolake')}")


def packages(_: Path) -> Iterator[Note]:
    """The version of every package that histolake needs, against the range of pyproject.toml."""
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in metadata.requires("histolake") or ()]
    here = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    notes = [note for one in here if (note := _wrong(one.name, str(one.specifier))) is not None]
    yield from notes
    if not notes:
        names = ("deltalake", "duckdb", "mlflow", "onnxruntime", "polars", "streamlit")
        told = ", ".join(f"{name} {metadata.version(name)}" for name in names)
        yield ok(f"{len(here)} packages in their ranges: {told}")


def ray(_: Path) -> Iterator[Note]:
    """Ray's version where it is installed: only work on a cluster needs it."""
    from packaging.requirements import Requirement

    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        yield ok("not installed; only work on a cluster needs it")
        return
    needed = [Requirement(text) for text in metadata.requires("histolake") or ()]
    wanted = next(str(one.specifier) for one in needed if one.name == "ray")
    yield _wrong("ray", wanted) or ok(f"ray {version}")


def _wrong(name: str, wanted: str) -> Note | None:
    """What is wrong with a package's version; None where it is in its range."""
    from packaging.specifiers import SpecifierSet

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return error(f"{name} is not installed", INSTALL)
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return None
    return error(f"{name} {version}, {wanted} is needed", INSTALL)


def processors(_: Path) -> Iterator[Note]:
    """The processors that this process may use, and whether its control group gives it their whole time."""
    count, share = cores(), cgroups.processors()
    if share is not None and share < count:
        yield warning(
            f"{count} processors, of which the container may use the time of {share:g}: threads wait for each other",
            "bind the container to whole processors: --cpuset-cpus, or Kubernetes' static CPU manager",
        )
    elif count == 1:
        yield warning("1 processor: slides are read and embedded in turns", "give histolake two or more")
    else:
        yield ok(f"{count} processors")


def memory(_: Path) -> Iterator[Note]:
    """The memory that this process may have: the machine's, or its control group's where that is less."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroups.memory_bytes()
    least = installed if limit is None else min(installed, limit)
    whose = "of the container" if least < installed else "of the machine"
    told = f"{least / GB:.1f} GB {whose}"
    if least < LEAST_MEMORY:
        yield error(told, f"give histolake {GOOD_MEMORY / GB:.0f} GB or more: embedding a slide would be killed")
    elif least < GOOD_MEMORY:
        yield warning(told, f"give histolake {GOOD_MEMORY / GB:.0f} GB or more: training on many patches takes them")
    else:
        yield ok(told)


def open_files(_: Path) -> Iterator[Note]:
    """How many files this process may have open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedy = f"raise it: `ulimit -n {GOOD_FILES}`, or LimitNOFILE= of the systemd unit"
    if soft == resource.RLIM_INFINITY or soft >= GOOD_FILES:
        yield ok("as many as there are" if soft == resource.RLIM_INFINITY else f"{soft:,} at once")
    elif soft < LEAST_FILES:
        yield error(f"{soft:,} at once, {hard:,} at most", remedy)
    else:
        yield warning(f"{soft:,} at once, {hard:,} at most", remedy)


def disk(root: Path) -> Iterator[Note]:
    """The room where the lake, the cache of encoders and temporary files lie."""
    folders = {"lake": root, "cache": cache_dir(), "temporary files": Path(tempfile.gettempdir())}
    for what, folder in folders.items():
        if storage.is_remote(folder):  # it has no end that could be asked for
            continue
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        told = f"{what}: {free / GB:.1f} GB free in {folder}"
        remedy = {
            "lake": "make room there, or `histolake vacuum`",
            "cache": "make room there, or name another folder by HISTOLAKE_CACHE",
            "temporary files": "make room there, or name another folder by TMPDIR",
        }[what]
        if free < LEAST_DISK:
            yield error(told, remedy)
        elif free < GOOD_DISK:
            yield warning(told, remedy)
        else:
            yield ok(told)
