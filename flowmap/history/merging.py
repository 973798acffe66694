"""When small blocks become one: where few flows end, every few seconds make a block of their own.

Blocks of like size are joined eight at a time, so a flow is written again about once for every factor of eight in
size, and a file has few blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BLOCK_FLOWS = 8192
"""Flows in a block at most."""
FACTOR = 8


class Extent(NamedTuple):
    """Which flows a block holds, and when they ended (µs since the epoch)."""

    seq: int
    flows: int
    since: int
    last: int


def run_to_merge(blocks: Sequence[Extent], *, most: int, longest: int) -> list[Extent]:
    """The blocks to join now, the newest of ``blocks`` among them; empty if none.

    ``most``: flows in a block. ``longest``: µs that the ends of its flows may lie apart, since it leaves as a whole.
    """
    bounds = [most // FACTOR**power for power in range(1, 12) if most >= FACTOR**power]
    for bound in reversed(bounds):
        run = _suffix(blocks, bound, most, longest)
        if len(run) >= FACTOR:
            return run
    return []


def _suffix(blocks: Sequence[Extent], bound: int, most: int, longest: int) -> list[Extent]:
    """The longest end of ``blocks`` that is without a gap and a block of more than ``bound`` flows, and fits in one."""
    run: list[Extent] = []
    flows, since, last = 0, None, None
    for extent in reversed(blocks):
        since = extent.since if since is None else min(since, extent.since)
        last = extent.last if last is None else max(last, extent.last)
        flows += extent.flows
        touches = not run or extent.seq + extent.flows == run[0].seq
        if extent.flows > bound or not touches or flows > most or last - since > longest:
            break
        run.insert(0, extent)
    return run
