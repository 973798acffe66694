"""Waits for a condition, with a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

SECONDS = 40.0
"""Longer than anything takes on a busy machine; a test that passes never waits this long."""
FIRST, LONGEST = 0.005, 0.1
"""Seconds between two looks: each is 1.5 times the last."""


def until(condition: Callable[[], object], what: str, *, seconds: float = SECONDS) -> None:
    """Wait until ``condition`` returns a true value; the last value is part of the failure."""
    end, pause = time.monotonic() + seconds, FIRST
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what} ({value!r})"
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST)


async def until_async(condition: Callable[[], bool | Awaitable[bool]], what: str, *, seconds: float = SECONDS) -> None:
    """The same without blocking the event loop; ``condition`` may be a coroutine function."""
    end, pause = time.monotonic() + seconds, FIRST
    while True:
        value = condition()
        if value if isinstance(value, bool) else await value:
            return
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST)
