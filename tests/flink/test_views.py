"""The same cluster seen by every source, through address translation, over IPv6, and with parallel subtasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.flink.cluster import HUB, MYSQL, POSTGRES, SOURCES, stage, wait_for_slots
from tests.flink.conftest import VERSION, Session, needs
from tests.flink.watch import settle, watched
from tests.support.waiting import until

pytestmark = [pytest.mark.flink]
SIX = "[fd00:9::{}]:{}"


@pytest.mark.parametrize(
    ("collect", "where"),
    [
        pytest.param({"source": "sockets", "sockets": {"interval": "2s"}}, "tm1", id="sockets"),
        pytest.param({"source": "capture"}, "hub", id="capture"),
        pytest.param({"source": "auto"}, "hub", id="auto"),
    ],
)
def test_every_source_names_a_take_over(
    session: Session, place: Path, collect: Mapping[str, object], where: str
) -> None:
    since, made = time.time(), session.stage
    inside = made.hub if where == "hub" else made.leaves[where]
    with watched(made, place, inside=inside, urls={"prod": f"http://{HUB}:8081"}, collect=collect) as seen:
        job = session.rest.submit("first", SOURCES[0], MYSQL)
        settle(made, seen, jobs=2, since=since)
        session.rest.cancel(job)
        again = time.time()
        session.rest.submit("second", SOURCES[1], POSTGRES)
        settle(made, seen, jobs=2, since=again)
        found = settle(made, seen, jobs=4, since=since)
        unnamed = [one for one, _ in found.unnamed if one.opened > since]  # earlier tests leave sockets open
        assert (found.wrong, unnamed) == ([], [])
        assert len(found.right) >= 2


def test_source_nat_on_the_way(session: Session, place: Path) -> None:
    session.stage.hub.nft(
        "table ip masked {\n chain out {\n type nat hook postrouting priority 100;\n"
        ' ip saddr 10.200.1.0/24 oifname "svc" masquerade\n }\n}\n'
    )
    try:
        since = time.time()
        with watched(session.stage, place) as seen:
            job = session.rest.submit("orders", SOURCES[0], MYSQL)
            found = settle(session.stage, seen, jobs=2, since=since)
            session.rest.cancel(job)  # while its connections still find their way
            assert (found.wrong, len(found.right)) == ([], 2)
            assert {one.src.split(":")[0] for one in found.right} == {"10.200.9.1"}
    finally:
        session.stage.hub.run("nft", "delete", "table", "ip", "masked")


def test_parallel_subtasks_over_ipv6(place: Path, tmp_path: Path) -> None:
    needs(VERSION)
    (tmp_path / "six").mkdir()
    with stage(tmp_path / "six", VERSION) as made:
        made.leaf("tm1", 1, 2)
        own = {"jobmanager.rpc.address": "fd00::1"}
        made.job_manager(settings=own)
        rest = made.rest()
        until(rest.answers, "the JobManager answers", seconds=60)
        made.task_manager("tm1", "fd00:1::2", 2, settings=own)
        wait_for_slots(rest, 2)
        since = time.time()
        with watched(made, place) as seen:
            rest.submit("orders", SIX.format(11, 9092), SIX.format(21, 3306), parallelism="2")
            # What is between has two subtasks; Flink's socket source and sink always have one.
            found = settle(made, seen, jobs=2, since=since)
            assert (found.wrong, found.shared) == ([], [])
            assert {one.dst for one in found.right} == {SIX.format(11, 9092), SIX.format(21, 3306)}
            rpc = seen.states(client="[fd00:1::2]:", server="[fd00::1]:6123")
            assert set(rpc.values()) == {"internal"}


def test_flink_1_20(place: Path, tmp_path: Path) -> None:
    needs("1.20.5")
    (tmp_path / "old").mkdir()
    with stage(tmp_path / "old", "1.20.5") as made:
        made.leaf("tm1", 1, 2)
        made.job_manager()
        rest = made.rest()
        until(rest.answers, "the JobManager answers", seconds=60)
        made.task_manager("tm1", "10.200.1.2", 1)
        wait_for_slots(rest, 1)
        since = time.time()
        with watched(made, place) as seen:
            job = rest.submit("orders", SOURCES[0], MYSQL)
            settle(made, seen, jobs=2, since=since)
            rest.cancel(job)
            rest.submit("payments", SOURCES[1], POSTGRES)
            found = settle(made, seen, jobs=4, since=since)
            assert (found.wrong, len(found.right)) == ([], 4)
            rpc = seen.states(client="10.200.1.2:", server="10.200.0.1:6123")
            assert set(rpc.values()) == {"internal"}
