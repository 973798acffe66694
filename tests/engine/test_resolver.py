"""Questions become calls, and whatever comes of a call is delivered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from flowmap.attribute.questions import UNREADABLE, Question, Shape
from flowmap.control.alibaba.api.client import DeploymentsAnswer
from flowmap.control.alibaba.api.models import Deployment, JobSummary
from flowmap.engine.commands import QuestionResult
from flowmap.engine.resolver import Resolver, may_own
from flowmap.errors import Throttled, Transient
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner

QUESTION = Question("ns", Shape.SINK, None, Endpoint(Address.parse("10.1.0.1"), 9092))
ORDERS = Deployment(
    deployment_id="d1", name="orders", labels={"team": "a"}, job_summary=JobSummary(running=1, failed=2)
)


class Plane:
    """Stands for the control client: ``reply`` makes an answer or raises."""

    workspace = "w"

    def __init__(self, reply: Callable[[], object]) -> None:
        self.reply, self.asked = reply, list[dict[str, object]]()
        self.workspaces: list[str] = []

    def of_workspace(self, workspace: str) -> Plane:
        self.workspaces.append(workspace)
        return self

    async def get_deployments_by_ip(self, **parameters: object) -> object:
        self.asked.append(parameters)
        await asyncio.sleep(0)
        found = self.reply()
        return await found if asyncio.iscoroutine(found) else found


def answer(*deployments: Deployment, dropped: int = 0, ago: float = 0.0) -> DeploymentsAnswer:
    now = time.time()
    return DeploymentsAnswer(deployments, "r", dropped, now - ago, now)


def deliver(reply: Callable[[], object], question: Question = QUESTION) -> tuple[QuestionResult, dict[str, object]]:
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
    ("question", "parameters"),
    [
        (QUESTION, {"dst_ip": "10.1.0.1", "dst_port": 9092, "src_ip": None, "src_port": None}),
        (
            Question("ns", Shape.CLIENT, Endpoint(Address.parse("2001:db8::1"), 0), None),
            {"src_ip": "2001:db8::1", "src_port": None, "dst_ip": None, "dst_port": None},
        ),
    ],
)
def test_a_question_is_asked_with_its_parameters(question: Question, parameters: dict[str, object]) -> None:
    assert deliver(answer, question)[1] == {"namespace": "ns", **parameters}


def test_an_answer_names_owners_and_describes_deployments() -> None:
    before = time.monotonic()
    result, _ = deliver(lambda: answer(ORDERS, ago=0.0))
    assert result.answer is not None
    assert result.answer.owners == {Owner("w", "ns", "d1", "orders")}
    assert before <= result.answer.asked <= result.answer.arrived <= time.monotonic()
    (info,) = result.deployments
    assert (info.labels, info.jobs_by_state) == ({"team": "a"}, {"running": 1, "failed": 2})


def test_deployment_place_and_default_name() -> None:
    elsewhere = replace(ORDERS, workspace="w2", namespace="n2", name=None)
    result, _ = deliver(lambda: answer(elsewhere))
    assert result.answer is not None
    assert result.answer.owners == {Owner("w2", "n2", "d1", "d1")}


@pytest.mark.parametrize(
    ("jobs", "owns"),
    [({}, True), ({"running": 1}, True), ({"cancelling": 1}, True), ({"failed": 3, "running": 0}, False)],
)
def test_who_has_no_job_that_could_hold_a_connection_owns_none(jobs: dict[str, int], owns: bool) -> None:
    assert may_own(DeploymentInfo(Owner("w", "ns", "d", "d"), jobs_by_state=jobs)) is owns


def test_unreadable_deployments_are_an_unnamed_owner() -> None:
    result, _ = deliver(lambda: answer(ORDERS, dropped=2))
    assert result.answer is not None
    assert {owner.deployment_id for owner in result.answer.owners} == {"d1", UNREADABLE}


def test_an_answer_of_which_nothing_could_be_read_is_none() -> None:
    result, _ = deliver(lambda: answer(dropped=2))
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

    def reply() -> DeploymentsAnswer:
        asked = time.time()
        moved[0] = step
        return DeploymentsAnswer((ORDERS,), "r", 0, asked, time.time())

    before = time.monotonic()
    result, _ = deliver(reply)
    assert result.answer is not None
    assert before <= result.answer.asked <= before + 1
    assert result.answer.asked <= result.answer.arrived <= time.monotonic()


def test_a_retry_counts_from_the_request_that_was_answered() -> None:
    def reply() -> DeploymentsAnswer:
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


def test_question_of_another_workspace() -> None:
    found = answer(Deployment(deployment_id="a", name="n"))
    plane, delivered = Plane(lambda: found), list[QuestionResult]()

    async def ask() -> None:
        resolver = Resolver(plane)  # type: ignore[arg-type]
        for question in (QUESTION._replace(workspace="v"), QUESTION):
            resolver.start(question, delivered.append)
        while len(delivered) < 2:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(ask(), 5))
    assert plane.workspaces == ["v"]
    owners = {one.question.workspace: set(one.answer.owners) for one in delivered if one.answer}
    assert owners == {"v": {Owner("v", "ns", "a", "n")}, "": {Owner("w", "ns", "a", "n")}}
