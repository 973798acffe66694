"""When the next turn of a member begins."""

from __future__ import annotations

import asyncio

import pytest

from flowmap.control.clock import SYSTEM_CLOCK
from flowmap.fleet.turns import Turns

FAR = 600.0


@pytest.mark.parametrize("before", [[0.0], [FAR, 0.0], [0.0, FAR], [0.01, FAR]])
def test_the_earliest_wish_counts(before: list[float]) -> None:
    async def main() -> None:
        turns = Turns(SYSTEM_CLOCK)
        for pause in before:
            turns.come(pause)
        async with asyncio.timeout(20):
            await turns.next(FAR, 1)

    asyncio.run(main())


@pytest.mark.parametrize("wishes", [[0.0], [FAR / 2, 0.01], [FAR / 2, FAR / 3, 0.0]])
def test_a_wish_shortens_the_wait_of_now(wishes: list[float]) -> None:
    async def main() -> None:
        turns = Turns(SYSTEM_CLOCK)
        waiting = asyncio.create_task(turns.next(FAR, 1))
        for pause in wishes:
            await asyncio.sleep(0.01)
            assert not waiting.done()
            turns.come(pause)
        async with asyncio.timeout(20):
            await waiting

    asyncio.run(main())


def test_wishes_end_with_the_wait_that_they_shortened() -> None:
    async def main() -> None:
        turns = Turns(SYSTEM_CLOCK)
        turns.come()
        await turns.next(FAR, 1)
        waiting = asyncio.create_task(turns.next(FAR, 1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(main())
