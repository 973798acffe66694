"""Memory that is given back to the system (mallopt(3))."""

from __future__ import annotations

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3
LARGE = 1 << 20
"""Bytes from which on an array has pages of its own. glibc raises this limit up to 32 MiB as a program frees large
arrays, and then keeps more than 100 MiB of a daemon with a million flows for later."""


def give_back_large() -> None:
    """From now on memory of large arrays goes back to the system when they do. Does nothing where libc has no say."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
