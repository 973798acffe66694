"""Every HTTP exchange waits to be admitted and says when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import Transient
from tests.support.control_clients import GOOD, NAMESPACE, Script, run_questions, script

BUSY = HttpReply(503, {}, b"")
LOST = Transient("the connection broke")


class Desk:
    """Admits, and keeps count."""

    def __init__(self, played: Script, waits: tuple[float, ...] = ()) -> None:
        self.asked: list[tuple[str, int]] = []
        self.held = self.most = 0
        self._played = played
        self._waits = list(waits)

    async def admit(self, operation: str, exchange: int) -> Callable[[], None]:
        self.asked.append((operation, exchange))
        await self._played.sleep(self._waits.pop(0) if self._waits else 0.0)
        self.held += 1
        self.most = max(self.most, self.held)
        return self._release

    def _release(self) -> None:
        self.held -= 1


ROWS: list[tuple[tuple[HttpReply | BaseException, ...], int]] = [
    ((GOOD,), 1),
    ((BUSY, GOOD), 2),
    ((BUSY, LOST, GOOD), 3),
    ((LOST, LOST, LOST), 3),
    ((HttpReply(403, {}, b'{"Code": "Forbidden.RAM", "Message": "no"}'),), 1),
]


@pytest.mark.parametrize(("replies", "exchanges"), ROWS)
def test_each_exchange_is_admitted_and_given_back(
    replies: tuple[HttpReply | BaseException, ...], exchanges: int
) -> None:
    played = script(*replies)
    desk = Desk(played)
    run_questions(played.client(admit=desk.admit))
    assert desk.asked == [("GetDeploymentsByIp", number) for number in range(1, exchanges + 1)]
    assert len(played.sent) == exchanges
    assert (desk.held, desk.most) == (0, 1)


def test_first_admission_does_not_count_against_the_deadline() -> None:
    played = script(LOST, GOOD)
    desk = Desk(played, waits=(100.0, 1.0))
    run_questions(played.client(admit=desk.admit, timeout=10))
    assert len(played.sent) == 2
    assert played.timeouts[0] == pytest.approx(5)


def test_repeat_without_admission_ends_with_the_last_error() -> None:
    played = script(LOST, GOOD)
    held = []

    async def admit(operation: str, exchange: int) -> Callable[[], None]:
        if exchange > 1:
            await asyncio.Event().wait()
        held.append(exchange)
        return held.clear

    (error,) = run_questions(played.client(admit=admit, timeout=0.3))
    assert isinstance(error, Transient)
    assert str(error) == str(LOST)
    assert not held


def test_pages_are_admitted_one_by_one() -> None:
    played = script()
    desk = Desk(played)

    async def read() -> None:
        await played.client(admit=desk.admit).list_jobs(namespace=NAMESPACE, deployment_id="id").all()

    asyncio.run(read())
    assert desk.asked == [("ListJobs", 1)]
    assert desk.held == 0
