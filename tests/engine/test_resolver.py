"""Questions become calls, and whatever comes of a call is delivered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from flowmap.attribute.questions import UNREADABLE, Question, Shape
from flowmap.control.port import OwnersAnswer
from flowmap.engine.commands import QuestionResult
from flowmap.engine.resolver import Resolver
from flowmap.errors import Throttled, Transient
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner

QUESTION = Question("ns", Shape.SINK, None, Endpoint(Address.parse("10.1.0.1"), 9092))
ORDERS = DeploymentInfo(Owner("w", "ns", "d1", "orders"), jobs_by_state={"running": 1, "failed": 2})


class Plane:
    """A control plane whose answers ``reply`` makes or raises."""

    workspace = "w"

    def __init__(self, reply: Callable[[], object]) -> None:
        self.reply, self.asked = reply, list[tuple[object, ...]]()

    async def find_owners(self, *parameters: object) -> object:
        self.asked.append(parameters)
        await asyncio.sleep(0)
        found = self.reply()
        return await found if asyncio.iscoroutine(found) else found


def answer(*deployments: DeploymentInfo, unreadable: int = 0, ago: float = 0.0) -> OwnersAnswer:
    now = time.time()
    return OwnersAnswer(deployments, now - ago, now, unreadable)


def deliver(reply: Callable[[], object], question: Question = QUESTION) -> tuple[QuestionResult, tuple[object, ...]]:
    """What comes of one question."""
    plane, delivered = Plane(reply), list[QuestionResult]()

    async def ask() -> None:
        resolver = Resolver(plane)  # type: ignore[arg-type]
        resolver.start(question, delivered.append)
        while not delivered:
            await asyncio.sleep(0)
        await resolver.aclose()

    asyncio.run(asyncio.wait_for(ask(), 5))
    (one,) = delivered
    return one, plane.asked[0]


@pytest.mark.parametrize(
    "question",
    [
        QUESTION,
        Question("ns", Shape.CLIENT, Endpoint(Address.parse("2001:db8::1"), 0), None),
        QUESTION._replace(workspace="v"),
    ],
)
def test_a_question_is_asked_with_its_parameters(question: Question) -> None:
    parameters = (question.workspace, "ns", question.source, question.destination)
    assert deliver(answer, question)[1] == parameters


def test_result_has_owners_and_descriptions() -> None:
    before = time.monotonic()
    result, _ = deliver(lambda: answer(ORDERS, ago=0.0))
    assert result.answer is not None
    assert result.answer.owners == {Owner("w", "ns", "d1", "orders")}
    assert before <= result.answer.asked <= result.answer.arrived <= time.monotonic()
    assert result.deployments == (ORDERS,)


def test_unreadable_deployments_are_an_unnamed_owner() -> None:
    result, _ = deliver(lambda: answer(ORDERS, unreadable=2))
    assert result.answer is not None
    assert {owner.deployment_id for owner in result.answer.owners} == {"d1", UNREADABLE}


def test_an_answer_of_which_nothing_could_be_read_is_none() -> None:
    result, _ = deliver(lambda: answer(unreadable=2))
    assert (result.answer, result.unreadable) == (None, 2)
    assert "2 elements" in result.cause


def test_error_has_reason_and_retry_after() -> None:
    def refuse() -> object:
        raise Throttled("slow down", retry_after=7.0)

    result, _ = deliver(refuse)
    assert (result.answer, result.cause, result.retry_after) == (None, "throttled: slow down", 7.0)


def test_a_defect_does_not_leave_a_question_in_flight(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> object:
        raise KeyError("x")

    assert "KeyError" in deliver(broken)[0].cause
    nonsense = answer("not a deployment")  # type: ignore[arg-type]
    assert "defect" in deliver(lambda: nonsense)[0].cause
    assert len(caplog.records) == 2


def test_calls_under_way_at_the_end_are_delivered_too() -> None:
    delivered: list[QuestionResult] = []

    async def ask() -> None:
        resolver = Resolver(Plane(lambda: asyncio.sleep(60)))  # type: ignore[arg-type]
        resolver.start(QUESTION, delivered.append)
        for _ in range(5):
            await asyncio.sleep(0)
        await resolver.aclose()

    asyncio.run(ask())
    assert [one.cause for one in delivered] == ["flowmap is stopping"]


@pytest.mark.parametrize("step", [-3600.0, 5.0])
def test_wall_clock_step_makes_no_answer_younger(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = time.time()
    moved = [0.0]
    monkeypatch.setattr(time, "time", lambda: wall + moved[0])

    def reply() -> OwnersAnswer:
        asked = time.time()
        moved[0] = step
        return OwnersAnswer((ORDERS,), asked, time.time())

    before = time.monotonic()
    result, _ = deliver(reply)
    assert result.answer is not None
    assert before <= result.answer.asked <= before + 1
    assert result.answer.asked <= result.answer.arrived <= time.monotonic()


def test_a_retry_counts_from_the_request_that_was_answered() -> None:
    def reply() -> OwnersAnswer:
        time.sleep(0.05)
        return answer(ORDERS, ago=0.0)

    before = time.monotonic()
    result, _ = deliver(reply)
    assert result.answer is not None
    assert result.answer.asked >= before + 0.04


def test_one_line_for_many_failures(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> object:
        raise Transient("away")

    async def ask() -> None:
        delivered: list[QuestionResult] = []
        resolver = Resolver(Plane(refuse))  # type: ignore[arg-type]
        for _ in range(20):
            resolver.start(QUESTION, delivered.append)
        while len(delivered) < 20:
            await asyncio.sleep(0)

    asyncio.run(ask())
    assert len(caplog.records) == 1
