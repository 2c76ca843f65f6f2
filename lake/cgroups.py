"""What the control groups of Linux let this process have: a container's share of its machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROCESS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")

# the folder of the first version of control groups, the second version's file, the first one's
MEMORY = ("memory", "memory.max", "memory.limit_in_bytes")
UNLIMITED_BYTES = 2**60  # the first version says "none" by a number like this


def memory_bytes(process: Path = PROCESS, mount: Path = MOUNT) -> int | None:
    """The least memory that a group of this process may have; None without a limit, and where there are no groups."""
    limits = [int(text) for text in _values(process, mount, *MEMORY) if text.isdigit()]
    return min((limit for limit in limits if limit < UNLIMITED_BYTES), default=None)


def processors(process: Path = PROCESS, mount: Path = MOUNT) -> float | None:
    """The least processor time a second that a group of this process may have; None without a limit."""
    shares = []
    for text in _values(process, mount, "cpu", "cpu.max", ""):
        quota, _, period = text.partition(" ")
        shares += [int(quota) / int(period)] if quota.isdigit() else []
    quotas = _values(process, mount, "cpu", "", "cpu.cfs_quota_us")
    periods = _values(process, mount, "cpu", "", "cpu.cfs_period_us")
    shares += [int(quota) / int(period) for quota, period in zip(quotas, periods, strict=False) if quota.isdigit()]
    return min(shares, default=None)


def _values(process: Path, mount: Path, controller: str, second: str, first: str) -> Iterator[str]:
    """The contents of that file in the process's groups, from its own up to the outermost that is seen."""
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names:
            yield from _upwards(mount, path, second)
        elif controller in names.split(","):
            yield from _upwards(mount / controller, path, first)


def _upwards(mount: Path, path: str, name: str) -> Iterator[str]:
    folder = mount / path.strip("/")
    for each in (folder, *folder.parents) if name else ():
        file = each / name
        if file.is_file():
            yield file.read_text(encoding="utf-8").strip()
        if each == mount:
            return
