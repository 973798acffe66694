"""An outage: when the control plane fails, since when, and why."""

from __future__ import annotations

import pytest

from flowmap.attribute.calls.outage import Outage


def test_an_answer_ends_the_outage() -> None:
    outage = Outage()
    assert outage.end(5.0) < 0, "no question had failed"
    outage.fail(10.0, "timeout")
    outage.fail(20.0, "connect")
    assert outage.end(70.0) == 60.0
    assert outage.end(80.0) < 0


def test_a_question_that_its_fleet_gave_up_is_no_outage() -> None:
    outage = Outage()
    outage.fail(10.0, "fleet: no flow waits for this answer any more")
    assert not outage.lasts and outage.cause(5.0) == ""


@pytest.mark.parametrize(
    ("answered", "failed", "since", "expected"),
    [
        (None, None, 0.0, ""),
        (None, 10.0, 5.0, "breaker: the control plane does not answer; dns"),
        (20.0, 10.0, 5.0, ""),  # it answers again
        (6.0, 10.0, 5.0, ""),  # it answered after the flow ended
        (4.0, 10.0, 5.0, "breaker: the control plane does not answer; dns"),
    ],
)
def test_cause(answered: float | None, failed: float | None, since: float, expected: str) -> None:
    outage = Outage()
    if failed is not None:
        outage.fail(failed, "dns")
    if answered is not None:
        outage.end(answered)
    assert outage.cause(since) == expected
