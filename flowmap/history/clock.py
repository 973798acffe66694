"""The offset between monotonic time and wall time.

The daemon measures monotonic seconds; users and files use seconds since the epoch. The wall clock can be set at any
time, so an offset is valid at the moment it was taken and must not be kept.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path


def epoch() -> float:
    """The seconds to add to a monotonic instant of this boot for seconds since the epoch."""
    return time.time() - time.monotonic()


def boot(file: Path = Path("/proc/sys/kernel/random/boot_id")) -> int:
    """A number for the current boot: monotonic time continues over restarts of the daemon, but not over a reboot.

    If the kernel's boot id cannot be read, the number is random, as after a reboot.
    """
    try:
        text = file.read_text()
        return int(text.replace("-", ""), 16) >> 65
    except (OSError, ValueError):
        return secrets.randbits(63)
