"""flowmap query: parameters, output and exit status."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import pytest

from flowmap.cli.shared.options import EndpointArgument
from flowmap.cli.traffic import query
from flowmap.model.deployment import State
from flowmap.model.views import AttributionView
from flowmap.serve.api.models import Attribution
from tests.support.fake_backend import ATTRIBUTION, EXPLANATION

UNKNOWN = AttributionView(State.UNKNOWN, (), (), None, "no answer")


def arguments(**given: object) -> argparse.Namespace:
    default: dict[str, object] = {
        "source": EndpointArgument("10.0.0.1", None),
        "destination": EndpointArgument("10.1.0.1", 9092),
        "protocol": "tcp",
        "at": None,
        "netns": None,
        "explain": False,
        "direct": False,
        "output": "json",
    }
    return argparse.Namespace(**(default | given))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"srcPort": None, "dstPort": 9092, "at": None, "explain": None}),
        ({"at": 12.3456}, {"at": "12.346"}),
        ({"netns": "blue"}, {"netns": "blue"}),
        ({"explain": True, "protocol": "17"}, {"explain": 1, "protocol": "17"}),
        ({"source": EndpointArgument("2001:db8::1", 5)}, {"srcIp": "2001:db8::1", "srcPort": 5}),
    ],
)
def test_parameters(given: dict[str, object], expected: dict[str, object]) -> None:
    found = query.parameters(arguments(**given))
    assert found | expected == found


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(
    ("view", "status"),
    [
        (ATTRIBUTION, 0),
        (replace(ATTRIBUTION, state=State.SHARED), 0),
        (UNKNOWN, query.EXIT_UNNAMED),
        (replace(UNKNOWN, state=State.PENDING), query.EXIT_UNNAMED),
    ],
)
def test_status_says_whether_there_is_a_name(
    view: AttributionView,
    status: int,
    direct: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def answer(where: str) -> object:
        asked.append(where)
        return Attribution.of(view).as_json()

    monkeypatch.setattr("flowmap.cli.shared.direct.answer", lambda _: answer("control plane"))
    monkeypatch.setattr("flowmap.cli.shared.client.connect", lambda _: Daemon(lambda: answer("daemon")))
    assert query.run(arguments(direct=direct)) == status
    assert asked == ["control plane" if direct else "daemon"]
    assert json.loads(capsys.readouterr().out)["state"] == view.state


class Daemon:
    """A client of a daemon that answers one query."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def get(self, path: str, parameters: object) -> object:
        assert path == "attribution"
        return self._answer()  # type: ignore[operator]


def test_the_explanation_follows_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = replace(ATTRIBUTION, explanation=EXPLANATION)
    monkeypatch.setattr("flowmap.cli.shared.direct.answer", lambda _: Attribution.of(view).as_json())
    query.run(arguments(direct=True, output="table"))
    out = capsys.readouterr().out
    assert out.index("state") < out.index("seen by")
