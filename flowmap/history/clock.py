"""The one place where monotonic time and wall time meet.

The daemon measures in monotonic seconds; people ask, and files last, in seconds since the epoch. The wall clock can be
set at any time, so an offset between the two holds for the moment it was taken and is never kept for long.
"""

from __future__ import annotations

import time
from pathlib import Path


def epoch() -> float:
    """What to add to a monotonic instant of this boot to get seconds since the epoch, now."""
    return time.time() - time.monotonic()


def boot() -> int:
    """A number for the running boot: monotonic time goes on through restarts of the daemon, not through a reboot."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
        return int(text.replace("-", ""), 16) >> 65
    except (OSError, ValueError):
        return 0
