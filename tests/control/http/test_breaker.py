"""The breaker and the pause, with time as an argument."""

from __future__ import annotations

from flowmap.control.http.breaker import Breaker, Pause


def fail(breaker: Breaker, times: int, *, now: float = 0.0) -> None:
    for _ in range(times):
        assert breaker.admit(now=now)
        breaker.failed(now=now)


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=3, rest=5)
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.is_open
    fail(breaker, 1)
    assert breaker.is_open and not breaker.admit(now=4.9) and breaker.remaining(now=1) == 4


def test_the_rest_doubles_up_to_the_longest_and_starts_anew() -> None:
    breaker = Breaker(failures=1, rest=5, longest=12)
    now, rests = 0.0, []
    fail(breaker, 1)
    for _ in range(4):
        rests.append(breaker.remaining(now=now))
        now += rests[-1]
        fail(breaker, 1, now=now)
    assert rests == [5, 10, 12, 12]
    now += 12
    assert breaker.admit(now=now)
    breaker.succeeded()
    assert not breaker.is_open
    fail(breaker, 1, now=now)
    assert breaker.remaining(now=now) == 5


def test_one_probe_at_a_time() -> None:
    breaker = Breaker(failures=1, rest=5)
    fail(breaker, 1)
    assert [breaker.admit(now=5) for _ in range(3)] == [True, False, False]
    breaker.abandoned()
    assert breaker.admit(now=5)


def test_late_failures_do_not_lengthen_the_rest() -> None:
    breaker = Breaker(failures=1, rest=5)
    assert breaker.admit(now=0) and breaker.admit(now=0)
    breaker.failed(now=0)
    breaker.failed(now=3)
    assert breaker.remaining(now=3) == 2


def test_a_pause_is_never_shortened() -> None:
    pause = Pause()
    assert pause.remaining(now=100) == 0
    pause.extend(10, now=100)
    pause.extend(1, now=100)
    assert (pause.remaining(now=101), pause.remaining(now=110), pause.remaining(now=111)) == (9, 0, 0)
