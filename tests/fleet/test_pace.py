"""How often a host talks to the server, and its own share of the rate."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.fleet import pace
from flowmap.fleet.pace import OwnShare
from flowmap.fleet.server.connection import SCRIPT


@pytest.mark.parametrize("hosts", [1, 3, 100, 1000])
@pytest.mark.parametrize("token_in", [0.0, 0.3, 100.0])
@pytest.mark.parametrize("may_call", [True, False])
@pytest.mark.parametrize("waiting", [0, 1])
@pytest.mark.parametrize("callable_", [0, 5])
@pytest.mark.parametrize("hurried", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_a_host_is_never_missing_and_never_too_many(
    hosts: int, token_in: float, may_call: bool, waiting: int, hurried: bool, callable_: int, told: bool
) -> None:
    live = float(re.findall(r"^local LIVE = (\d+)", SCRIPT.read_text(), re.M)[0])
    for chance in (0.0, 0.5, 1.0):
        pause = pace.next_exchange(
            hosts=hosts,
            waiting=waiting,
            hurried=hurried,
            callable_=callable_,
            token_in=token_in,
            may_call=may_call,
            told=told,
            chance=chance,
        )
        assert min(pace.IDLE / 2, hosts / pace.EXCHANGES, pace.SOON) <= pause <= 2 * pace.IDLE
        assert live > 2 * pause, "one exchange may be lost"
        assert hosts / pause <= max(2 * pace.EXCHANGES, hosts / pace.SOON)


def test_a_waiting_host_comes_back_for_the_next_call() -> None:
    few = {"hosts": 3, "waiting": 1, "hurried": True, "callable_": 1, "told": True, "chance": 0.0}
    assert pace.next_exchange(**few, token_in=0.3, may_call=True) == pytest.approx(0.3)  # type: ignore[arg-type]
    many = few | {"hosts": 400, "token_in": 0.0}
    assert pace.next_exchange(**many, may_call=True) == pytest.approx(1.0)  # type: ignore[arg-type]
    patient = many | {"hurried": False}
    assert pace.next_exchange(**patient, may_call=True) == pytest.approx(3.2)  # type: ignore[arg-type]
    assert pace.gathering(3) < pace.SOON and pace.gathering(10**6) == pace.idle(10**6) == 2 * pace.IDLE


def test_a_host_that_is_told_of_answers_does_not_look_for_them() -> None:
    one = {"hosts": 3, "waiting": 1, "hurried": True, "token_in": 0.0, "chance": 1.0}
    for callable_, may_call in ((0, True), (1, False)):
        asked = one | {"callable_": callable_, "may_call": may_call}
        assert pace.next_exchange(**asked, told=True) == pace.IDLE  # type: ignore[arg-type]
        assert pace.next_exchange(**asked, told=False) < 0.1  # type: ignore[arg-type]


@given(st.integers(1, 3000), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_a_host_exchanges_a_few_times_at_once_but_not_all_the_time(hosts: int, wishes: list[float]) -> None:
    throttle, now, at = pace.Throttle(), 0.0, list[float]()
    for wish in wishes:
        now += max(wish / 100, throttle.pause(now, hosts))
        throttle.note(now, hosts)
        at.append(now)
    assert all(later - earlier >= 0.99 * pace.SHORTEST for earlier, later in zip(at, at[1:], strict=False))
    for start in at:
        window = [one for one in at if start <= one < start + 10]
        assert len(window) <= 10 * 10 * pace.EXCHANGES / hosts + pace.AT_ONCE + 2


def test_a_user_without_the_right_to_subscribe_tries_seldom() -> None:
    assert pace.next_subscription(1, hosts=1, refused=True, chance=1.0) == pace.REFUSED
    assert pace.next_subscription(1, hosts=1, refused=False, chance=1.0) < 1.0


def test_attempts_become_rarer_up_to_the_longest_pause() -> None:
    pauses = [pace.next_attempt(failures, hosts=1, chance=1.0) for failures in range(1, 20)]
    assert pauses == sorted(pauses) and pauses[0] < 1 and pauses[-1] == pace.RETRY
    assert pace.next_attempt(1, hosts=1000, chance=1.0) == 1000 / pace.EXCHANGES
    assert pace.RETRY < pace.LOCAL_AFTER


@given(
    st.integers(1, 50),
    st.floats(0.5, 20),
    st.lists(st.tuples(st.floats(0, 1), st.lists(st.floats(0, 3), max_size=40)), min_size=1, max_size=50),
)
def test_hosts_without_a_server_keep_to_the_rate_together(
    size: int, rate: float, hosts: list[tuple[float, list[float]]]
) -> None:
    calls = []
    for chance, pauses in hosts[:size]:
        share, now = OwnShare(), 0.0
        for pause in pauses:
            now += pause
            share.open(0.0, rate=rate, size=size, chance=chance)
            if share.take(now, rate=rate, size=size):
                calls.append(now)
    for start in calls:
        window = [call for call in calls if start <= call < start + 10]
        assert len(window) <= 10 * rate + min(size, len(hosts))


def test_a_share_is_closed_until_it_is_opened() -> None:
    share = OwnShare()
    assert not share.take(1e9, rate=1, size=1) and share.next_in(0) == math.inf
    share.open(10.0, rate=2, size=10, chance=0.5)
    assert share.next_in(10.0) == pytest.approx(2.5)
    assert not share.take(12.4, rate=2, size=10) and share.take(12.6, rate=2, size=10)
    assert share.next_in(12.6) == pytest.approx(5.0)
    share.close()
    assert not share.take(1e9, rate=2, size=10)
