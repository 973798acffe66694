"""A session cluster of Flink 2.3: every name against the truth in the data."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flink.cluster import MYSQL, POSTGRES, REDIS, SOURCES, wait_for_slots
from tests.flink.conftest import Session
from tests.flink.watch import settle, watched
from tests.support.waiting import until

pytestmark = [pytest.mark.flink]


@pytest.fixture
def since() -> Iterator[float]:
    yield time.time()


def test_one_job_a_task_manager_is_named(session: Session, place: Path, since: float) -> None:
    with watched(session.stage, place) as seen:
        job = session.rest.submit("orders", SOURCES[0], MYSQL)
        found = settle(session.stage, seen, jobs=2, since=since)
        assert (len(found.right), found.wrong, found.shared, found.unnamed) == (2, [], [], [])
        until(
            lambda: set(seen.states(server="10.200.0.1:6123").values()) == {"internal"},
            "the RPC connection is Flink's own",
        )
        session.rest.cancel(job)


def test_takeover_in_one_jvm_is_never_mistaken(session: Session, place: Path, since: float) -> None:
    names = ["first", "second"]
    with watched(session.stage, place) as seen:
        job = session.rest.submit(names[0], SOURCES[0], MYSQL)
        settle(session.stage, seen, jobs=2, since=since)  # a job that no reading shows gives no name
        for turn in range(1, 17):
            session.rest.cancel(job)
            free = time.time()
            job = session.rest.submit(names[turn % 2], SOURCES[turn % 2], (MYSQL, POSTGRES)[turn % 2])
            settle(session.stage, seen, jobs=2, since=free)
        session.rest.cancel(job)
        found = settle(session.stage, seen, jobs=34, since=since)
        assert found.wrong == []
        assert len(found.right) + len(found.shared) == 34  # on a busy host a start may lie between two jobs
        assert found.right


def test_connections_that_are_cut_and_opened_again(session: Session, place: Path, since: float) -> None:
    with watched(session.stage, place) as seen:
        session.rest.submit("orders", SOURCES[0], MYSQL)
        settle(session.stage, seen, jobs=2, since=since)
        for turn in range(3):
            cut = time.time()
            session.stage.leaves["tm1"].run("ss", "-K", "dst", "10.200.9.0/24")
            found = settle(session.stage, seen, jobs=4, since=cut)  # Flink restarts the job in the same slot
            assert (found.wrong, len(found.right)) == ([], 4), turn


def test_files_of_a_job(session: Session, place: Path) -> None:
    job = session.rest.submit("orders", SOURCES[0], MYSQL)
    config = place / "flowmap.yaml"
    config.write_text('{"flink": {"clusters": [{"name": "prod", "urls": ["http://127.0.0.1:8081"]}]}}')

    def users(file: str) -> set[tuple[str, str, str]]:
        words = ["package-users", file, "-c", str(config), "-o", "json"]
        command = [sys.executable, "-m", "flowmap", *words]
        found = session.stage.hub.run(*command)
        return {
            (one["name"], job["jobId"], file["field"])
            for one in json.loads(found)["deployments"]
            for job in one["jobs"]
            for file in job["files"]
        }

    assert users(str(session.stage.job_jar)) == {("orders", job, "open file")}
    assert users("flink-dist-*.jar") == {("orders", job, "class path")}
    assert users("10.200.9.21:3306") == {("orders", job, "user-config sink")}  # what this job publishes


def test_two_jobs_in_one_jvm_stay_a_set(session: Session, place: Path, since: float) -> None:
    tm2 = session.stage.task_manager("tm2", "10.200.2.2", 2)
    wait_for_slots(session.rest, 3)
    alone = session.rest.submit("alone", SOURCES[0], MYSQL)
    with watched(session.stage, place) as seen:
        jobs = [session.rest.submit("clicks", SOURCES[1], POSTGRES), session.rest.submit("audit", SOURCES[1], REDIS)]
        found = settle(session.stage, seen, jobs=6, since=since)
        assert found.wrong == []
        assert len(found.right) + len(found.shared) == 6
        for job in (*jobs, alone):
            session.rest.cancel(job)
    tm2.stop()
