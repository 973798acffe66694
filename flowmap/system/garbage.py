"""When Python looks for reference cycles: often among young objects, at intervals among all.

A full collection visits every object while all threads wait: 0.4 s with the answers about 100,000 clients. Python
begins one whenever the objects have become a quarter more, so in a flood of flows a dozen follow each other. Here they
follow a clock, and take at most a thousandth of the time. Objects without cycles, nearly all, are freed at once anyway.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable

YOUNG, MIDDLE = 10_000, 5
"""New objects before a collection of those; such collections before one of what survived them: some 10 ms."""
BY_ITSELF = 1 << 30
"""The same for a full collection: never."""
SHARE = 0.001
"""Most time that full collections take."""
PAUSE = 60.0
"""Shortest time in seconds between two full collections."""


def set_up() -> None:
    """Leave out of all collections what exists now, such as modules, and start full ones by :func:`collect` alone."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, BY_ITSELF)


async def collect(sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
    """Do full collections until cancelled."""
    pause = PAUSE
    while True:
        await sleep(pause)
        began = time.perf_counter()
        gc.collect()
        pause = pause_after(time.perf_counter() - began)


def pause_after(seconds: float) -> float:
    """Seconds until the next full collection, after one that took so long."""
    return max(PAUSE, seconds / SHARE)
