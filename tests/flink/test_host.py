"""TaskManagers that share an address, seen on their own host: the cgroup of each socket tells whose it is."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flowmap.system.cgroups import mount_point
from tests.flink.cluster import HUB, MYSQL, POSTGRES, SOURCES, Stage, stage, wait_for_slots
from tests.flink.conftest import VERSION, needs
from tests.flink.watch import Verdicts, settle, watched
from tests.support.waiting import until

pytestmark = [pytest.mark.flink]
ADDRESS = "10.200.1.2"


@contextlib.contextmanager
def cgroups(*names: str) -> Iterator[list[Path]]:
    """New cgroups; the test is skipped where there can be none."""
    root = mount_point()
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("needs a cgroup v2 tree to make cgroups")
    made = [root / f"flowmap-flink-{os.getpid()}-{name}" for name in names]
    for place in made:
        place.mkdir()
    try:
        yield made
    finally:
        for place in made:
            place.rmdir()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One host with two TaskManagers in cgroups of their own, and a job on each."""
    needs(VERSION)
    with cgroups("a", "b") as (a, b), stage(tmp_path_factory.mktemp("host"), VERSION) as made:
        made.leaf("host", 1, 2).track()
        made.leaves["host"].sysctl("net.netfilter.nf_conntrack_acct", 1)
        made.job_manager()
        rest = made.rest()
        until(rest.answers, "the JobManager answers", seconds=60)
        made.task_manager("left", ADDRESS, 1, inside="host", cgroup=a)
        wait_for_slots(rest, 1)
        rest.submit("left", SOURCES[0], POSTGRES)
        made.task_manager("right", ADDRESS, 1, inside="host", cgroup=b)
        wait_for_slots(rest, 1)
        rest.submit("right", SOURCES[0], POSTGRES)
        yield made


def seen_on(host: Stage, place: Path, flink: Mapping[str, str], collect: Mapping[str, object]) -> Verdicts:
    """Verdicts on four connections of jobs and two of strangers, one of which is open before the daemon starts."""
    since = time.time()
    before = host.stranger("host", MYSQL)
    with watched(
        host,
        place,
        inside=host.leaves["host"],
        urls={"prod": f"http://{HUB}:8081"},
        flink={"clusters": [{"name": "prod", "urls": [f"http://{HUB}:8081"]}], **flink},
        collect=collect,
    ) as seen:
        after = host.stranger("host", MYSQL)
        jobs = 4 if flink.get("host") != "off" or flink.get("addresses") != "shared" else 0
        found = settle(host, seen, jobs=jobs, strangers=2 if flink.get("host") != "off" else 0, since=since)
    for one in (before, after):
        one.close()
    return found


SOCKETS = {"source": "sockets", "sockets": {"interval": "2s"}}
AUTO = {"source": "auto", "sockets": {"interval": "2s"}}


@pytest.mark.parametrize(
    ("flink", "collect"),
    [
        pytest.param({"addresses": "shared"}, SOCKETS, id="shared, sockets"),
        pytest.param({"addresses": "shared"}, AUTO, id="shared, conntrack with sockets"),
        pytest.param({"addresses": "exclusive"}, SOCKETS, id="exclusive, sockets"),
    ],
)
def test_every_socket_has_its_owner(
    host: Stage, place: Path, flink: Mapping[str, str], collect: Mapping[str, object]
) -> None:
    found = seen_on(host, place, flink, collect)
    assert (found.wrong, found.shared) == ([], [])
    assert sorted(one.job or "" for one in found.right) == ["left", "left", "right", "right"]
    assert {one.job for one, _ in found.unnamed} == {""}


def test_without_facts_of_the_host_a_shared_address_names_nothing(host: Stage, place: Path) -> None:
    found = seen_on(host, place, {"addresses": "shared", "host": "off"}, SOCKETS)
    assert (found.wrong, found.shared, found.right) == ([], [], [])


def test_check_says_which_are_on_this_host(host: Stage, place: Path) -> None:
    file = place / "flowmap.yaml"
    file.write_text(f'{{"flink": {{"clusters": [{{"name": "prod", "urls": ["http://{HUB}:8081"]}}]}}}}')
    command = f"{sys.executable} -m flowmap check -c {file} || true"
    shown = host.leaves["host"].run("sh", "-c", command)
    assert "2 TaskManagers of this host have their sockets told: 2 by a cgroup of their own" in shown
