"""The memory by which the process that reads slides hands pixels to the one that asked for them."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.areas import Pixels

HEADER_BYTES = mmap.PAGESIZE
PIXEL_BYTES = 24 * 2**20  # handed over at once: 64 patches of 299 px are 17 MB
CUTS, BLOCKS = 0, 1  # places in `SharedMemory.begun`


@dataclass(frozen=True)
class SharedMemory:
    """begun: how many cuts and blocks of levels the reader has begun in its life; pixels: what it hands over."""

    begun: NDArray[np.int64]
    pixels: Pixels


def create() -> int:
    """A descriptor of memory that has no name, and that no process which is given it can take away from another."""
    if not hasattr(os, "memfd_create"):  # not Linux
        descriptor, path = tempfile.mkstemp(prefix="histolake-pixels-")
        os.unlink(path)
        os.ftruncate(descriptor, HEADER_BYTES + PIXEL_BYTES)
        return descriptor
    descriptor = os.memfd_create("histolake-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, HEADER_BYTES + PIXEL_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def attach(descriptor: int) -> SharedMemory:
    """The memory of a descriptor, which may be closed then."""
    mapped = mmap.mmap(descriptor, HEADER_BYTES + PIXEL_BYTES)
    return SharedMemory(np.frombuffer(mapped, np.int64, 2), np.frombuffer(mapped, np.uint8, PIXEL_BYTES, HEADER_BYTES))
