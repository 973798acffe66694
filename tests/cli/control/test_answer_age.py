"""calibrate --watch: what a change of an address tells about the age of the API's data, and what it does not."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from flowmap.cli.control import answer_age
from flowmap.cli.control.answer_age import Sample, learn, suggestion, watch
from tests.support.known_catalog import KAFKA, SOURCE, TASK_MANAGER, catalog, entry
from tests.support.shell import Shell
from tests.support.waiting import until


def samples(text: str) -> list[Sample]:
    """One answer a second from 100 on, each after 0.2 s: ``+`` names the deployment, ``-`` does not, ``?`` fails."""
    states = {"+": True, "-": False, "?": None}
    return [Sample(100.0 + n, 100.2 + n, states[sign]) for n, sign in enumerate(text)]


BOUNDS = [
    # answers, moment of the change, change, at least, first new at most, suggested
    ("--++", None, "appeared", None, None, None),
    ("++--", None, "disappeared", None, None, None),
    ("--++", 100.5, "appeared", 0.5, 1.5, 2),
    ("++--", 100.5, "disappeared", 0.5, 1.5, 2),
    ("--++", 101.5, "appeared", None, 0.5, 1),
    ("--++", 102.1, "appeared", None, 0.0, 0),  # between its asking and its arrival
    ("--++", 60.0, "appeared", 41.0, 42.0, 42),
    ("-??+", 100.5, "appeared", None, 2.5, 3),
    ("-+-+", None, "appeared", 0.8, None, 1),  # an older answer after a newer one needs no moment
    ("-+--+", None, "appeared", 1.8, None, 2),
    ("-+--+", 100.9, "appeared", 2.1, 0.1, 3),
    ("--++", 105.0, "appeared", None, None, None),  # the moment cannot be right
    ("----", 100.5, None, None, None, None),
    ("++++", None, None, None, None, None),
    ("????", 100.5, None, None, None, None),
    ("", None, None, None, None, None),
]


@pytest.mark.parametrize(("answers", "moment", "change", "least", "most", "suggested"), BOUNDS)
def test_bounds(
    answers: str, moment: float | None, change: str | None, least: float | None, most: float | None,
    suggested: float | None,
) -> None:  # fmt: skip
    finding = learn(samples(answers), moment)
    found = answer_age.as_json(finding, len(answers))
    assert found["change"] == change
    assert (found["atLeastSeconds"], found["firstNewAtMostSeconds"]) == (least, most)
    assert suggestion(finding) == suggested
    text = "\n".join(answer_age.lines(finding, len(answers)))
    assert (f"attribute.answer_age: at least {suggested:g}s" if suggested is not None else "unknown") in text


@pytest.mark.parametrize("age", [0.0, 0.4, 3.0, 7.7])
@pytest.mark.parametrize("moment", [103.0, 104.9])
def test_the_bounds_hold_for_data_of_any_age(age: float, moment: float) -> None:
    answers = [Sample(100.0 + n, 100.1 + n, 100.0 + n - age >= moment) for n in range(20)]
    finding = learn(answers, moment)
    assert (finding.at_least or 0.0) <= age + 1e-9
    assert finding.at_most is not None and finding.at_most >= age - 1e-9


def test_watching_ends_some_time_after_the_change() -> None:
    states = iter([False, False, True] + [True] * 100)
    now = [0.0]

    async def ask() -> Sample:
        return Sample(now[0], now[0], next(states))

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    answers = asyncio.run(watch(ask, lambda _: None, seconds=300, pause=1.0, sleep=sleep, clock=lambda: now[0]))
    assert len(answers) == 2 + answer_age.SETTLE


def moves_after(shell: Shell, questions: int, after: dict[str, Any]) -> threading.Thread:
    """Replace the catalog when so many questions were answered."""

    def move() -> None:
        until(lambda: shell.asked().get("GetDeploymentsByIp", 0) >= questions, "the first questions")
        shell.sandbox.set_catalog(after)

    thread = threading.Thread(target=move)
    thread.start()
    return thread


@pytest.mark.parametrize("appears", [True, False])
def test_a_catalog_that_learns_of_a_change_late(shell: Shell, appears: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_age, "SETTLE", 0.0)
    monkeypatch.setenv("FLOWMAP__ATTRIBUTE__RECHECK", "100ms")
    without, with_it = catalog("both"), catalog("both", entry("reads", TASK_MANAGER, reads=[KAFKA]))
    before, after = (without, with_it) if appears else (with_it, without)
    shell.sandbox.set_catalog(before)
    mover = moves_after(shell, 4, after)
    changed_at = time.time() - 5  # the control plane learns of it at least 5 s later
    found = shell.json("calibrate", SOURCE, KAFKA, "reads", "--watch", "60s", "--changed-at", f"{changed_at:.3f}")
    mover.join()
    assert found["change"] == ("appeared" if appears else "disappeared")
    assert 5 <= found["atLeastSeconds"] < found["firstNewAtMostSeconds"] <= found["suggestedSeconds"]


def test_without_a_change_nothing_is_learned(shell: Shell) -> None:
    shell.sandbox.set_catalog(catalog("both", entry("reads", TASK_MANAGER, reads=[KAFKA])))
    assert shell.run("calibrate", SOURCE, KAFKA, "reads", "--watch", "100ms", "-o", "table") == 3
    assert "attribute.answer_age: unknown" in shell.out and "must change hands" in shell.out


def test_without_an_answer_it_is_an_error(shell: Shell) -> None:
    shell.sandbox.set_faults([{"kind": "gateway"}])
    assert shell.run("calibrate", SOURCE, KAFKA, "reads", "--watch", "100ms", "-o", "table") == 1
    assert "no answer arrived" in shell.out


def test_a_moment_without_a_watch_is_refused(shell: Shell) -> None:
    assert shell.run("calibrate", SOURCE, KAFKA, "reads", "--changed-at", "2026-11-21T20:16:07Z") == 1
    assert "--watch" in shell.err and shell.asked() == {}
