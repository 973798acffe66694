"""The one place where monotonic time and wall time meet.

The daemon measures in monotonic seconds; people ask, and files last, in seconds since the epoch. The wall clock can be
set at any time, so an offset between the two holds for the moment it was taken and is never kept for long.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path


def epoch() -> float:
    """What to add to a monotonic instant of this boot to get seconds since the epoch, now."""
    return time.time() - time.monotonic()


def boot(file: Path = Path("/proc/sys/kernel/random/boot_id")) -> int:
    """A number for the running boot: monotonic time goes on through restarts of the daemon, not through a reboot.

    Where the kernel's cannot be read it is a new one each time: the clock is then taken to have begun anew.
    """
    try:
        text = file.read_text()
        return int(text.replace("-", ""), 16) >> 65
    except (OSError, ValueError):
        return secrets.randbits(63)
