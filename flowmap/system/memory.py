"""Return of freed memory to the system (mallopt(3))."""

from __future__ import annotations

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3
LARGE = 1 << 20
"""Bytes from which on an array has its own pages. glibc raises this threshold up to 32 MiB when large arrays are freed.
Then more than 100 MiB of a daemon with a million flows are never returned."""


def give_back_large() -> None:
    """Return the memory of large arrays to the system when they are freed. No effect without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
