"""One session cluster of each version that the tests of this room share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.flink import distribution
from tests.flink.cluster import Rest, Stage, stage, wait_for_slots
from tests.support.waiting import until

VERSION = "2.3.0"


class Session(NamedTuple):
    """A session cluster: tm1 with one slot, tm2 with two, tm3 and tm4 with one each once they are started."""

    stage: Stage
    rest: Rest


def needs(version: str) -> None:
    """Skip the test if the machine cannot run it."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make network namespaces")
    if what := distribution.missing(version):
        pytest.skip(what)


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    needs(VERSION)
    with stage(tmp_path_factory.mktemp("flink"), VERSION) as made:
        yield start_session(made)


def start_session(made: Stage) -> Session:
    """A JobManager and two TaskManagers, of which tm1 runs first: a job with one slot goes there."""
    for number in (1, 2, 3, 4):
        made.leaf(f"tm{number}", number, 2)
    made.job_manager()
    rest = made.rest()
    until(rest.answers, "the JobManager answers", seconds=120)
    made.task_manager("tm1", "10.200.1.2", 1)
    rest.upload()
    wait_for_slots(rest, 1)
    return Session(made, rest)


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the shared cluster as it was: no job, and no TaskManager but tm1."""
    yield
    if "session" not in request.fixturenames:
        return
    made: Session = request.getfixturevalue("session")
    for job in made.rest.call("/jobs/overview")["jobs"]:
        if job["end-time"] < 0:
            made.rest.cancel(job["jid"])
    made.stage.stop_all_but("servers", "jm", "tm1")
    until(lambda: len(made.rest.call("/taskmanagers")["taskmanagers"]) == 1, "only tm1 is left", seconds=60)
    wait_for_slots(made.rest, 1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path
