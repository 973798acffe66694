"""One attribution as people see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.cli.output.answer import print_answer
from flowmap.model.deployment import State
from flowmap.model.views import AttributionView
from flowmap.serve.api.models import Attribution
from tests.support.fake_backend import ATTRIBUTION


def shown(capsys: pytest.CaptureFixture[str], view: AttributionView) -> list[str]:
    print_answer(Attribution.of(view).as_json())
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_an_owner_with_its_flow_and_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, ATTRIBUTION)
    assert lines[0] == "state attributed"
    assert any(line.startswith("deployment orders") and "id-1" in line for line in lines)
    assert any(line.startswith("job job-1 RUNNING") for line in lines)
    assert any(line.startswith("flow tcp 10.0.0.1:40000 -> [2001:db8::9]:9092") for line in lines)
    assert lines[-2].split() == ["QUESTION", "ANSWER", "CONFIDENCE", "ORIGIN", "RULE", "ANSWERED"]
    assert lines[-1].startswith("sink orders")


@pytest.mark.parametrize("cause", ["the control plane does not answer", None])
def test_no_owner_and_no_flow(capsys: pytest.CaptureFixture[str], cause: str | None) -> None:
    view = AttributionView(State.UNKNOWN, (), (), None, cause)
    assert shown(capsys, view) == ["state unknown", *([f"because {cause}"] if cause else [])]


@pytest.mark.parametrize(
    ("owners", "error", "answered_at", "text"),
    [
        ((), "timeout: late", None, "sink timeout: late"),
        ((), None, 5.0, "sink no deployment"),
        ((), None, None, "sink -"),
    ],
)
def test_evidence_without_a_name(
    capsys: pytest.CaptureFixture[str],
    owners: tuple[()],
    error: str | None,
    answered_at: float | None,
    text: str,
) -> None:
    (piece,) = ATTRIBUTION.evidence
    piece = replace(piece, owners=owners, error=error, answered_at=answered_at)
    view = AttributionView(State.UNKNOWN, (), (piece,), None)
    assert shown(capsys, view)[-1].startswith(text)
