"""TaskManagers that die, move and share addresses: a stranger at their address never gets a job's name."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from tests.flink.cluster import MYSQL, POSTGRES, REDIS, SOURCES, Process, wait_for_slots
from tests.flink.conftest import Session
from tests.flink.watch import settle, watched
from tests.support.waiting import until

pytestmark = [pytest.mark.flink]
LISTED = 60.0
"""Longest wait in seconds for a killed TaskManager to leave the list."""


def start(session: Session, name: str, address: str, *, slots: int = 1) -> Process:
    before = session.rest.free_slots()
    made = session.stage.task_manager(name, address, slots)
    wait_for_slots(session.rest, before + slots)
    return made


def gone(session: Session, count: int) -> None:
    until(
        lambda: len(session.rest.call("/taskmanagers")["taskmanagers"]) == count,
        "the killed TaskManager is not listed any more",
        seconds=LISTED,
    )


def test_stranger_at_the_address_of_a_killed_task_manager_stays_without_name(session: Session, place: Path) -> None:
    since = time.time()
    session.rest.submit("filler", SOURCES[0], MYSQL)  # takes tm1's slot
    tm3 = start(session, "tm3", "10.200.3.2")
    session.rest.submit("victim", SOURCES[1], POSTGRES)
    with watched(session.stage, place) as seen:
        settle(session.stage, seen, jobs=4, since=since)
        tm3.kill()
        killed = time.time()
        strangers = [session.stage.stranger("tm3") for _ in range(2)]
        gone(session, 1)
        time.sleep(8)  # what is wrong would be said with the next readings
        late = [session.stage.stranger("tm3") for _ in range(2)]
        found = settle(session.stage, seen, jobs=0, strangers=4, since=killed)
        assert found.wrong == []
        assert [one.job for one, _ in found.unnamed if one.src.startswith("10.200.3.2:")] == ["", "", "", ""]
        for one in (*strangers, *late):
            one.close()


def test_new_task_manager_and_job_at_the_address_of_a_killed_one(session: Session, place: Path) -> None:
    since = time.time()
    session.rest.submit("filler", SOURCES[0], MYSQL)
    tm3 = start(session, "tm3", "10.200.3.2")
    job = session.rest.submit("before", SOURCES[1], POSTGRES)
    with watched(session.stage, place) as seen:
        settle(session.stage, seen, jobs=4, since=since)
        session.rest.call(f"/jobs/{job}", method="PATCH")  # so that it does not come back
        tm3.kill()
        killed = time.time()
        session.stage.task_manager("tm3", "10.200.3.2", 1)
        after = session.rest.submit("after", SOURCES[1], REDIS, wait=False)
        until(lambda: session.rest.runs(after), "the new job runs", seconds=120)
        found = settle(session.stage, seen, jobs=4, since=killed)
        assert found.wrong == []
        assert {one.job for one in found.right} >= {"filler", "after"}


def test_two_task_managers_on_an_address_are_a_set(session: Session, place: Path) -> None:
    since = time.time()
    session.rest.submit("filler", SOURCES[0], MYSQL)
    start(session, "tm3", "10.200.3.2")
    session.rest.submit("left", SOURCES[0], POSTGRES)
    session.stage.task_manager("tm3b", "10.200.3.2", 1, inside="tm3")
    wait_for_slots(session.rest, 1)
    session.rest.submit("right", SOURCES[0], POSTGRES)
    with watched(session.stage, place) as seen:
        found = settle(session.stage, seen, jobs=6, since=since)
        assert found.wrong == []
        assert len(found.shared) == 4


def test_job_over_two_task_managers_and_its_exchange(session: Session, place: Path) -> None:
    since = time.time()
    session.rest.submit("filler", SOURCES[0], MYSQL)
    start(session, "tm3", "10.200.3.2")
    start(session, "tm4", "10.200.4.2")
    with watched(session.stage, place) as seen:
        session.rest.submit("ledger", SOURCES[1], REDIS, split="true")
        found = settle(session.stage, seen, jobs=4, since=since)
        assert (found.wrong, found.shared, len(found.right)) == ([], [], 4)

        def between() -> set[str]:
            ends = [("10.200.3.2:", "10.200.4.2:"), ("10.200.4.2:", "10.200.3.2:")]
            return {state for a, b in ends for state in seen.states(client=a, server=b).values()}

        until(lambda: between() == {"internal"}, "the exchange between the TaskManagers is Flink's own")


def leaked(session: Session, name: str, since: float) -> bool:
    return any(
        one.dst == POSTGRES and one.job == name and one.opened > since and one.closed is None
        for one in session.stage.truth()
    )


def test_socket_that_a_cancelled_job_leaked(session: Session, place: Path) -> None:
    with watched(session.stage, place) as seen:
        for turn in range(2):
            since = time.time()
            job = session.rest.submit(f"leaky{turn}", SOURCES[0], MYSQL, leak=POSTGRES)
            until(partial(leaked, session, f"leaky{turn}", since), "the job leaks a connection")
            session.rest.cancel(job)
            job = session.rest.submit(f"next{turn}", SOURCES[1], REDIS)
            found = settle(session.stage, seen, jobs=2, since=since)
            assert found.wrong == []
            session.rest.cancel(job)
