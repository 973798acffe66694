"""query --direct: answers to several questions become one, as in the daemon."""

from __future__ import annotations

import argparse

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.cli import command
from flowmap.cli.shared import direct
from flowmap.cli.shared.options import EndpointArgument
from flowmap.config import Config, load
from flowmap.control.alibaba.api.client import DeploymentsAnswer
from flowmap.control.alibaba.api.models import Deployment, JobSummary
from flowmap.errors import ControlError, Throttled
from flowmap.model.deployment import State

CONNECTION = argparse.Namespace(
    source=EndpointArgument("10.0.0.1", 5), destination=EndpointArgument("10.0.0.2", 9092), protocol="tcp", at=None
)


def config(**changes: str) -> Config:
    environ = {f"FLOWMAP__ATTRIBUTE__{name.upper()}": value for name, value in changes.items()}
    return load(None, {"FLOWMAP__CONTROL_PLANE__WORKSPACE": "w", **environ})


def named(*names: str, running: int = 1, dropped: int = 0) -> DeploymentsAnswer:
    summary = JobSummary(running=running, failed=3)
    deployments = tuple(Deployment(deployment_id=f"id-{name}", name=name, job_summary=summary) for name in names)
    return DeploymentsAnswer(deployments, "request", dropped, 100.0, 101.0)


FAILURE = Throttled("slow down")
Given = DeploymentsAnswer | ControlError

COMBINATIONS: list[tuple[str, dict[Shape, Given], State, list[str]]] = [
    (
        "one",
        {Shape.CLIENT: named("a"), Shape.SINK: named("a", "b"), Shape.SOURCE: named()},
        State.ATTRIBUTED,
        ["a"],
    ),
    (
        "several",
        {Shape.CLIENT: named("b", "a"), Shape.SINK: named("a"), Shape.SOURCE: named("b"), Shape.HOST: named()},
        State.SHARED,
        ["a", "b"],
    ),
    (
        "a deployment on the service's host",
        {Shape.CLIENT: named("b", "a"), Shape.SINK: named("a"), Shape.SOURCE: named("b"), Shape.HOST: named("b")},
        State.ATTRIBUTED,
        ["a"],
    ),
    ("nobody", {Shape.CLIENT: named(), Shape.SINK: named("a"), Shape.SOURCE: named("a")}, State.UNKNOWN, []),
    (
        "no job runs",
        {Shape.CLIENT: named("a", running=0), Shape.SINK: named("a"), Shape.SOURCE: named()},
        State.UNKNOWN,
        [],
    ),
    (
        "too many",
        {Shape.CLIENT: named(*"abcde"), Shape.SINK: named(*"abcde"), Shape.SOURCE: named()},
        State.AMBIGUOUS,
        [],
    ),
    ("no client", {Shape.CLIENT: FAILURE, Shape.SINK: named("a"), Shape.SOURCE: named()}, State.FAILED, []),
    (
        "a failure that cannot matter",
        {Shape.CLIENT: named("a"), Shape.SINK: named("a"), Shape.SOURCE: FAILURE},
        State.ATTRIBUTED,
        ["a"],
    ),
    (
        "a failure that can",
        {Shape.CLIENT: named("a", "b"), Shape.SINK: named("a"), Shape.SOURCE: FAILURE},
        State.FAILED,
        [],
    ),
    (
        "something unreadable",
        {Shape.CLIENT: named("a", dropped=1), Shape.SINK: named("a"), Shape.SOURCE: named()},
        State.FAILED,
        [],
    ),
]


@pytest.mark.parametrize(
    ("given", "state", "names"), [row[1:] for row in COMBINATIONS], ids=[row[0] for row in COMBINATIONS]
)
def test_combination(given: dict[Shape, Given], state: State, names: list[str]) -> None:
    asked = [question for question in direct.questions(config(), CONNECTION) if question.shape in given]
    answer = direct.attribution_of(config(), {question: given[question.shape] for question in asked})
    assert answer.state is state
    assert [info.owner.name for info in answer.deployments] == names
    assert [piece.error for piece in answer.evidence] == [
        "throttled: slow down" if given[question.shape] is FAILURE else None for question in asked
    ]


def shapes(questions: list[Question]) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (one.namespace, one.shape.value, *(str(end) if end else None for end in (one.source, one.destination)))  # type: ignore[misc]
        for one in questions
    ]


def test_questions_follow_the_reading_and_the_namespaces() -> None:
    assert shapes(direct.questions(config(semantics="connection"), CONNECTION)) == [
        ("default-namespace", "client", "10.0.0.1:0", None),
        ("default-namespace", "sink", None, "10.0.0.2:9092"),
    ]
    two = load(None, {"FLOWMAP__CONTROL_PLANE__NAMESPACES": '["x", "y"]', "FLOWMAP__ATTRIBUTE__SEMANTICS": "dataflow"})
    assert shapes(direct.questions(two, CONNECTION)) == [
        ("x", "sink", None, "10.0.0.2:9092"),
        ("y", "sink", None, "10.0.0.2:9092"),
        ("x", "source", "10.0.0.2:9092", None),
        ("y", "source", "10.0.0.2:9092", None),
    ]


REFUSED = [
    (["10.0.0.1", "10.0.0.2", "--direct"], "DST: the port is missing; --direct needs the port of the service"),
    (["10.0.0.1", "10.0.0.2:1", "--direct", "--at", "5"], "--at: the control plane knows only the present"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_what_cannot_be_asked(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["query", *words]) == 1
    assert capsys.readouterr().err.startswith(f"flowmap: {message}")


@pytest.mark.parametrize(
    ("ends", "endpoint", "semantics", "asks"),
    [
        (("10.0.0.1", "224.0.0.251"), "https://example.com", "both", False),
        (("0.0.0.0", "10.0.0.2"), "https://example.com", "both", False),
        (("fe80::1", "2001:db8::1"), "https://example.com", "dataflow", True),
        (("127.0.0.1", "127.0.0.1"), "https://example.com", "both", False),
        (("127.0.0.1", "127.0.0.1"), "http://127.0.0.1:9", "both", True),
        (("10.0.0.1", "10.0.0.2"), "https://example.com", "both", True),
    ],
)
def test_addresses_that_no_deployment_can_have_cost_no_call(
    ends: tuple[str, str], endpoint: str, semantics: str, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Question] = []

    async def none_of_them(_: Config, questions: list[Question]) -> direct.Answers:
        asked.extend(questions)
        return {question: named() for question in questions}

    monkeypatch.setattr(direct, "_ask_all", none_of_them)
    configured = load(
        None,
        {
            "FLOWMAP__CONTROL_PLANE__WORKSPACE": "w",
            "FLOWMAP__CONTROL_PLANE__ENDPOINT": endpoint,
            "FLOWMAP__ATTRIBUTE__SEMANTICS": semantics,
        },
    )
    monkeypatch.setattr(direct, "load", lambda *_: configured)
    source, destination = ends
    arguments = argparse.Namespace(
        source=EndpointArgument(source, 5),
        destination=EndpointArgument(destination, 9092),
        protocol="tcp",
        at=None,
        config=None,
    )
    answer = direct.answer(arguments)
    assert (bool(asked), answer["state"]) == (asks, "unknown")
    assert bool(answer["cause"]) != asks
