"""TaskManagers that share an address, seen on their own host: the cgroup of each socket tells whose it is."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flowmap.system.cgroups import find_mount
from tests.flink.cluster import HUB, MYSQL, POSTGRES, SOURCES, Stage, stage, wait_for_slots
from tests.flink.conftest import VERSION, needs
from tests.flink.watch import Verdicts, settle, watched
from tests.support.waiting import until

pytestmark = [pytest.mark.flink]
ADDRESS = "10.200.1.2"


@contextlib.contextmanager
def cgroups(*names: str) -> Iterator[list[Path]]:
    """New cgroups; the test is skipped where there can be none."""
    root = find_mount().path
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


@contextlib.contextmanager
def two_jobs(directory: Path, left: Path, right: Path) -> Iterator[Stage]:
    """One host with two TaskManagers in these cgroups, and a job on each."""
    with stage(directory, VERSION) as made:
        made.leaf("host", 1, 2).track()
        made.leaves["host"].sysctl("net.netfilter.nf_conntrack_acct", 1)
        made.job_manager()
        rest = made.rest()
        until(rest.answers, "the JobManager answers", seconds=60)
        for name, cgroup in (("left", left), ("right", right)):
            made.task_manager(name, ADDRESS, 1, inside="host", cgroup=cgroup)
            wait_for_slots(rest, 1)
            rest.submit(name, SOURCES[0], POSTGRES)
        yield made


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The TaskManagers are in cgroups of their own."""
    needs(VERSION)
    with cgroups("a", "b") as (a, b), two_jobs(tmp_path_factory.mktemp("host"), a, b) as made:
        yield made


@contextlib.contextmanager
def stranger(host: Stage) -> Iterator[None]:
    """A connection of another program. At the end the servers know that it is closed, else it counts for the next test,
    whose daemon never sees it."""
    with host.stranger("host", MYSQL) as made:
        address, port = made.getsockname()
        yield
    here = f"{address}:{port}"
    until(lambda: all(one.closed for one in host.truth() if one.src == here), "the servers saw the stranger leave")


def seen_on(host: Stage, place: Path, flink: Mapping[str, str], collect: Mapping[str, object]) -> Verdicts:
    """Verdicts on four connections of jobs and two of strangers, one of which is open before the daemon starts."""
    since = time.time()
    with contextlib.ExitStack() as strangers:
        strangers.enter_context(stranger(host))
        with watched(
            host,
            place,
            inside=host.leaves["host"],
            urls={"prod": f"http://{HUB}:8081"},
            flink={"clusters": [{"name": "prod", "urls": [f"http://{HUB}:8081"]}], **flink},
            collect=collect,
        ) as seen:
            strangers.enter_context(stranger(host))
            jobs = 4 if flink.get("host") != "off" or flink.get("addresses") != "shared" else 0
            return settle(host, seen, jobs=jobs, strangers=2 if flink.get("host") != "off" else 0, since=since)


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
    assert "the sockets of 2 TaskManagers on this host are identified: 2 by a cgroup of their own" in shown


def test_in_one_cgroup_the_process_tells(tmp_path_factory: pytest.TempPathFactory, place: Path) -> None:
    needs(VERSION)
    with cgroups("both") as (both,), two_jobs(tmp_path_factory.mktemp("one"), both, both) as host:
        command = f"""import socket, time
made = socket.create_connection({tuple(MYSQL.split(":"))})
made.sendall(b"job=|src=beside|\\n")
time.sleep(600)"""
        host.run("beside", host.leaves["host"], [sys.executable, "-c", command], cgroup=both)
        until(lambda: any(one.dst == MYSQL for one in host.truth()), "the program in the same cgroup is connected")
        collect = {"source": "sockets", "sockets": {"interval": "2s", "processes": "all"}}
        found = seen_on(host, place, {"addresses": "shared"}, collect)
    assert (found.wrong, found.shared) == ([], [])
    assert sorted(one.job or "" for one in found.right) == ["left", "left", "right", "right"]
    assert [one.job for one, _ in found.unnamed] == [""] * 3
