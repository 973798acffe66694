"""The pause between full reads, in which open connections get their counters and the proof that they are alive."""

from __future__ import annotations

LEAST = 2.0
"""Shortest pause in seconds between the ends of two full reads."""
SHARE = 0.02
"""Share of one core that full reads may take, except that the pause never exceeds the configured one."""


def pause_after(seconds: float, at_most: float) -> float:
    """Seconds to wait after a full read that took ``seconds``; ``at_most`` is the configured interval."""
    return min(at_most, max(LEAST, seconds / SHARE))
