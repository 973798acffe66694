"""The call budget, and who gets the calls: time is an argument, so every row is exact."""

from __future__ import annotations

import math
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.attribute.calls.budget import BACKGROUND_SHARE, CallBudget, Permits, choosing_pause


def made(*, rate: float = 1, burst: int = 4, max_in_flight: int = 4) -> tuple[CallBudget, Permits]:
    budget = CallBudget(rate=rate, burst=burst, max_in_flight=max_in_flight)
    return budget, Permits(budget)


def granted(*futures: Future[None]) -> list[bool]:
    return [future.done() for future in futures]


def test_the_catalog_leaves_half_of_the_burst_to_questions() -> None:
    budget, permits = made()
    waiting = [permits.wait(repeat=False) for _ in range(4)]
    permits.grant_spare(0)
    assert granted(*waiting) == [True, True, False, False]
    assert budget.available(0) == 2
    assert permits.next_at(0) == pytest.approx(1)
    permits.grant_spare(0.9)
    assert granted(*waiting)[2] is False
    permits.grant_spare(1)
    assert granted(*waiting)[2] is True
    assert len(permits) == 1


def test_burst_of_one_serves_the_catalog() -> None:
    budget, permits = made(burst=1)
    future = permits.wait(repeat=False)
    permits.grant_spare(0)
    assert granted(future) == [True]
    assert budget.available(0) == 0


def test_a_call_given_back_makes_room_in_flight() -> None:
    budget, permits = made(burst=100, max_in_flight=1)
    first, second = permits.wait(repeat=False), permits.wait(repeat=False)
    permits.grant_spare(0)
    assert granted(first, second) == [True, False]
    assert permits.next_at(0) == math.inf, "no time brings it nearer, the end of the other call does"
    permits.give_back()
    permits.apply_given_back()
    permits.grant_spare(0)
    assert granted(second) == [True]
    assert budget.in_flight == 1


def test_repeats_go_first_and_need_no_place_in_flight() -> None:
    budget, permits = made(burst=1, max_in_flight=1)
    budget.start(0)
    repeat, other = permits.wait(repeat=True), permits.wait(repeat=False)
    permits.grant_first(0)
    assert granted(repeat, other) == [False, False]
    assert permits.next_at(0) == 1
    permits.grant_first(1)
    permits.grant_spare(1)
    assert granted(repeat, other) == [True, False]
    assert budget.in_flight == 1


def test_catalog_share_under_load() -> None:
    budget, permits = made(burst=1, rate=1, max_in_flight=100)
    now, questions, mine = 0.0, 0, 0
    future = permits.wait(repeat=False)
    for _ in range(100):
        permits.grant_first(now)
        if future.done():
            mine += 1
            future = permits.wait(repeat=False)
        while budget.available(now):
            budget.start(now)
            permits.count_question()
            questions += 1
        now += 1
    assert (questions, mine) == (90, 10)
    assert BACKGROUND_SHARE == 10


def test_who_gave_up_costs_nothing() -> None:
    budget, permits = made(burst=1)
    gone, gone_repeat = permits.wait(repeat=False), permits.wait(repeat=True)
    assert gone.cancel()
    assert gone_repeat.cancel()
    left = permits.wait(repeat=False)
    permits.grant_first(0)
    assert budget.available(0) == 1
    permits.grant_spare(0)
    assert granted(left) == [True]
    assert len(permits) == 0


def test_the_owner_is_woken() -> None:
    _, permits = made()
    woken = []
    permits.on_request(lambda: woken.append(len(permits)))
    permits.wait(repeat=False)
    permits.give_back()
    assert woken == [1, 1]


steps = st.lists(
    st.sampled_from(["background", "repeat", "question", "finish", "give back", "cancel", "tick", "spare"]), max_size=80
)


@given(steps, st.integers(1, 5), st.integers(1, 4))
def test_never_more_calls_than_the_budget_has(order: list[str], burst: int, max_in_flight: int) -> None:
    budget, permits = made(rate=2, burst=burst, max_in_flight=max_in_flight)
    now, started, waiting, held, questions = 0.0, 0, list[tuple[bool, Future[None]]](), 0, 0
    for step in order:
        match step:
            case "background" | "repeat":
                waiting.append((step == "repeat", permits.wait(repeat=step == "repeat")))
            case "question" if budget.available(now):
                budget.start(now)
                permits.count_question()
                started, questions = started + 1, questions + 1
            case "finish" if questions:
                budget.finish()
                questions -= 1
            case "give back" if held:
                permits.give_back()
                held -= 1
            case "cancel" if waiting:
                waiting.pop()[1].cancel()
            case "tick":
                now += 0.3
        permits.apply_given_back()
        permits.grant_first(now)
        if step == "spare":
            permits.grant_spare(now)
        for entry in [entry for entry in waiting if entry[1].done()]:
            waiting.remove(entry)
            started += 1
            held += not entry[0]
        assert budget.in_flight == held + questions <= max_in_flight
        assert started <= burst + 2 * now + 1e-6


def test_budget_refills() -> None:
    budget = CallBudget(rate=2.0, burst=5, max_in_flight=3)
    assert budget.available(0.0) == 3
    for _ in range(3):
        budget.start(0.0)
    assert budget.available(0.0) == 0
    for _ in range(3):
        budget.finish()
    assert budget.available(0.0) == 2
    budget.start(0.0)
    budget.start(0.0)
    budget.finish()
    assert (budget.available(0.0), budget.next_at(0.0)) == (0, 0.5)
    assert (budget.available(0.5), budget.next_at(0.5)) == (1, 0.5)
    budget.finish()
    assert budget.available(1000.0) == 3
    assert budget.available(900.0) == 3, "a clock that went back gives nothing and takes nothing"


@pytest.mark.parametrize(("asked_at", "spare", "wanted"), [(0.0, False, 0.5), (0.2, False, 0.5), (9.0, False, 9.0)])
def test_time_without_calls_counts(asked_at: float, spare: bool, wanted: float) -> None:
    budget = CallBudget(rate=2.0, burst=4, max_in_flight=100)
    for _ in range(4):
        budget.start(0.0)
    assert budget.next_at(asked_at, spare=spare) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("cost", "hurried", "pause"),
    [(0.0, 0, 0.0), (0.0, 3, 0.03), (0.0, 1000, 0.25), (0.001, 3, 0.03), (0.1, 1000, 2.0)],
)
def test_choosing_waits_for_questions_under_way_and_takes_a_twentieth_of_a_core(
    cost: float, hurried: int, pause: float
) -> None:
    assert choosing_pause(cost, hurried) == pytest.approx(pause)
