"""Full collections: at intervals that grow with what they cost, and never by themselves."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from flowmap.system import garbage


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    yield
    gc.set_threshold(*thresholds)
    if not frozen:  # else the run has frozen its own objects
        gc.unfreeze()


class Knot:
    """An object in a cycle with itself."""

    def __init__(self) -> None:
        self.own = self


def test_old_cycles_wait_for_the_clock() -> None:
    garbage.set_up()
    knot = Knot()
    for generation in (0, 1):
        gc.collect(generation)  # it survives both
    alive = weakref.ref(knot)
    del knot
    kept = [[n] for n in range(garbage.YOUNG * (garbage.MIDDLE + 2))]
    assert alive() is not None, "no full collection by itself"
    del kept

    async def one_round() -> None:
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) > 1:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await garbage.collect(sleep)
        assert pauses[0] == garbage.PAUSE <= pauses[1]

    asyncio.run(one_round())
    assert alive() is None


@pytest.mark.parametrize(("took", "pause"), [(0.0, 60.0), (0.02, 60.0), (0.4, 400.0), (3.0, 3000.0)])
def test_collections_take_a_thousandth_of_the_time(took: float, pause: float) -> None:
    assert garbage.pause_after(took) == pause
