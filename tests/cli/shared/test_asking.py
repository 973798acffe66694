"""Asking from a command: the pace, the words of errors, and what an answer lacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from flowmap.cli.shared import asking
from flowmap.cli.shared.asking import LINES, Losses, Pace, in_words
from flowmap.config import ControlPlaneConfig
from flowmap.control.alibaba.api.envelope import Elements
from flowmap.control.alibaba.api.listing import Listing
from flowmap.control.alibaba.api.models import Job

MESSAGES = [
    ("src_ip or dst_ip: at least one is needed", "--src-ip or --dst-ip: at least one is needed"),
    ("src_port: needs src_ip; a port without", "--src-port: needs --src-ip; a port without"),
    ("name: 'name: src_ip' is not", "--name: 'name: src_ip' is not"),
    ("deployment_id: is needed", "DEPLOYMENT_ID: is needed"),
    ("label key: '' is not a name", "label KEY: '' is not a name"),
    ("something else", "something else"),
]


@pytest.mark.parametrize(("message", "words"), MESSAGES)
def test_errors_have_the_words_of_the_command(message: str, words: str) -> None:
    assert in_words(message) == words


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def pages(*sizes: int) -> Listing[Job]:
    """A listing with pages of 10 jobs, the last shorter."""

    async def ask(index: int) -> Elements[Job]:
        start = sum(sizes[: index - 1])
        items = tuple(Job(job_id=str(start + number)) for number in range(sizes[index - 1]))
        return Elements(items, page_index=index, page_size=10, total_size=sum(sizes))

    return Listing(ask, lambda job: job.job_id, page_size=10)


async def count(turns: AsyncIterator[tuple[Job, ...]]) -> list[int]:
    return [len(page) async for page in turns]


def test_calls_are_as_fast_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    async def run() -> None:
        pace = Pace(ControlPlaneConfig(rate=2, burst=3))
        assert await count(pace.pages(pages(10, 10, 4))) == [10, 10, 4]  # the burst
        assert clock.now == pytest.approx(100.5)  # it cannot know that the listing is over
        assert await count(pace.pages(pages(10, 4))) == [10, 4]  # but what was not asked is not lost
        assert clock.now == pytest.approx(101.5)

    asyncio.run(run())


def test_no_more_in_flight_than_configured() -> None:
    async def run() -> int:
        pace, inside, most = Pace(ControlPlaneConfig(rate=1000, burst=1000, max_in_flight=3)), 0, 0

        async def call() -> None:
            nonlocal inside, most
            async with pace.call():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(call() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3


def test_losses_are_told_up_to_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    losses = Losses()
    assert (losses.report(), bool(losses)) == (asking.EXIT_WHOLE, False)
    losses.hint("by the way")
    assert (losses.report(), bool(losses)) == (asking.EXIT_WHOLE, False)
    for number in range(LINES + 5):
        losses.add(f"loss {number}\n")
    capsys.readouterr()
    assert (losses.report(), bool(losses)) == (asking.EXIT_PARTIAL, True)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == r"flowmap: loss 0\n"
    assert said[LINES:] == ["flowmap: and 5 more", "flowmap: by the way"]


def test_a_listing_that_never_settles_is_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    losses, listing = Losses(), pages(10, 4)
    losses.of_listing(listing, "jobs")  # not read yet
    losses.report()
    assert capsys.readouterr().err == "flowmap: jobs: the list changed while it was read; some may be missing\n"
