"""The clocks, the sleep and the chance that calls use, as one value: tests replace them together."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Sources of time and of random pauses."""

    wall: Callable[[], float] = time.time
    """Epoch seconds."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    """A number from 0 to 1, for the spread of pauses."""


SYSTEM_CLOCK = Clock()

CLOCK_STEP = 0.01
"""Seconds by which the wall clock may drift from the monotonic one during a call before it counts as set."""


def asked_instant(begun: float, begun_wall: float, asked_at: float, now: float, wall: float) -> float:
    """The monotonic instant of ``asked_at``, an epoch time within the call that began at ``begun`` and ended ``now``.

    If the wall clock was set during the call, it is the beginning of the call, before any retry: too early is safe, too
    late is not.
    """
    stepped = abs((wall - begun_wall) - (now - begun)) > CLOCK_STEP
    return min(now, begun if stepped else begun + max(0.0, asked_at - begun_wall))
