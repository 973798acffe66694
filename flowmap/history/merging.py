"""Decides which small blocks to merge. With few flows, each write every few seconds makes a block of its own.

Blocks of similar size are merged eight at a time. So a flow is rewritten about once per factor of eight in size, and a
file has few blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BLOCK_FLOWS = 8192
"""Largest number of flows in a block."""
FACTOR = 8


class Extent(NamedTuple):
    """Number of the first flow of a block, how many it holds, and when they ended (µs since the epoch)."""

    seq: int
    flows: int
    since: int
    last: int


def run_to_merge(blocks: Sequence[Extent], *, most: int, longest: int) -> list[Extent]:
    """The newest blocks that are to be merged now, or none.

    ``most``: flows in a block. ``longest``: µs between the first and the last end of a flow in it, since a block is
    removed as a whole.
    """
    bounds = [most // FACTOR**power for power in range(1, 12) if most >= FACTOR**power]
    for bound in reversed(bounds):
        run = _suffix(blocks, bound, most, longest)
        if len(run) >= FACTOR:
            return run
    return []


def _suffix(blocks: Sequence[Extent], bound: int, most: int, longest: int) -> list[Extent]:
    """The longest suffix of ``blocks`` without gaps and without blocks of over ``bound`` flows that fits in a block."""
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
