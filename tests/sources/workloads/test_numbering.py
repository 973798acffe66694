"""Numbers of workloads, and when they are named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from flowmap.model.workload import CONFLICT, Workload
from flowmap.sources.workloads import numbering
from flowmap.sources.workloads.names import ContainerNames
from flowmap.sources.workloads.numbering import GONE, IN_ROOT, NOT_REPORTED, Numbering
from flowmap.sources.workloads.processes import Process
from flowmap.sources.workloads.selection import Selection
from flowmap.system import cgroups
from flowmap.system.cgroups import CgroupPaths, Mount


class Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def numbering_of(root: Path | None, clock: Clock | None = None, cause: str = "") -> Numbering:
    clock = clock or Clock()
    return Numbering(CgroupPaths(Mount(root, cause=cause), clock=clock, used=clock))


def numbers_of(made: Numbering, *ids: int) -> list[int]:
    return [int(number) for number in made.of_cgroups(np.array(ids, np.uint64))]


def test_one_number_and_one_name_for_each_cgroup(tmp_path: Path) -> None:
    (tmp_path / "a.service").mkdir()
    one = os.stat(tmp_path / "a.service").st_ino
    made = numbering_of(tmp_path)
    first, root, untold, gone, again = numbers_of(made, one, 1, 0, 12345678901234567890, one)
    assert first == again and len({first, root, untold, gone, CONFLICT, 0}) == 6
    named = dict(made.take_named())
    assert named[first] == Workload("/a.service", unit="a.service", cgroup_id=one)
    assert named[root] == Workload("/", cgroup_id=1, unknown=IN_ROOT)
    assert named[untold] == Workload(unknown=NOT_REPORTED)
    assert named[gone] == Workload(cgroup_id=12345678901234567890, unknown=GONE)
    assert made.take_named() == ()
    assert numbers_of(made, one, 0) == [first, untold]
    assert made.take_named() == ()


def test_a_name_follows_when_the_tree_may_be_walked_again(tmp_path: Path) -> None:
    clock = Clock()
    made = numbering_of(tmp_path, clock)
    numbers_of(made, 7)
    made.take_named()
    (tmp_path / "late.service").mkdir()
    one = os.stat(tmp_path / "late.service").st_ino
    (number,) = numbers_of(made, one)
    ((found, workload),) = made.take_named()
    assert (found, workload.cgroup, workload.unknown) == (number, None, "the cgroup is not read yet")
    assert made.take_named() == ()
    clock.now += 1
    assert made.take_named() == ((number, Workload("/late.service", unit="late.service", cgroup_id=one)),)


@pytest.mark.parametrize(
    ("socket", "holder", "known"),
    [
        ("a.service", "/a.service", True),
        ("a.service", "", True),
        ("a.service", "/b.service", False),
        ("a.service", "/", False),
        ("init.scope", "/b.service", False),
        (f"docker/{'c' * 64}", f"/docker/{'c' * 64}/inner", True),
        (f"docker/{'c' * 64}", f"/../../docker/{'c' * 64}", True),
        (f"docker/{'c' * 64}", f"/docker/{'d' * 64}", False),
        (f"docker/{'c' * 64}", "/../b.service", False),
    ],
)
def test_a_socket_that_was_passed_on_has_no_container(tmp_path: Path, socket: str, holder: str, known: bool) -> None:
    (tmp_path / socket).mkdir(parents=True)
    made = numbering_of(tmp_path)
    one = os.stat(tmp_path / socket).st_ino
    numbers_of(made, one)
    number = made.of_process(one, Process(7, "java", cgroup=holder))
    found = dict(made.take_named())[number]
    assert (found.pid, found.cgroup_id, found.cgroup is not None) == (7, one, known)
    if not known:
        assert found.labels == ("unknown", "unknown") and f"/{socket}" in found.unknown and holder in found.unknown


def test_without_a_tree_the_cause_is_said() -> None:
    made = numbering_of(None, cause="no tree")
    numbers_of(made, 7)
    assert made.take_named()[-1][1] == Workload(cgroup_id=7, unknown="no tree")


def test_a_dropped_number_is_never_used_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numbering, "LIMIT", 2)
    made = numbering_of(tmp_path)
    first = numbers_of(made, 11, 12, 13)
    assert made.dropped()["workloads"] == 1
    assert not set(numbers_of(made, 11)) & set(first)


def test_names_that_are_not_waited_for_any_more_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numbering, "NAMELESS", 1)
    monkeypatch.setattr(cgroups, "LIMIT", 4)
    pods = [tmp_path / f"kubepods/pod{'a' * 32}" / (letter * 64) for letter in "bcd"]
    for pod in pods:
        pod.mkdir(parents=True)
    made = Numbering(CgroupPaths(Mount(tmp_path), clock=Clock()), ContainerNames(tmp_path / "none"))
    numbers_of(made, *(os.stat(pod).st_ino for pod in pods))
    made.take_named()
    assert made.dropped() == {"cgroups": 2, "workloads": 0, "container_names": 2}


def test_no_sockets(tmp_path: Path) -> None:
    assert numbers_of(numbering_of(tmp_path)) == []


def test_cgroups_that_do_not_count(tmp_path: Path) -> None:
    for name in ("in.service", "out.service"):
        (tmp_path / name).mkdir()
    inside, outside = (os.stat(tmp_path / name).st_ino for name in ("in.service", "out.service"))
    made = numbering_of(tmp_path)
    made.select(Selection(exclude=["/out.service"]))
    kept, left, unknown = numbers_of(made, inside, outside, 1 << 60)
    rows = [
        # client, server, whether the flow is left out
        (0, 0, False),
        (kept, 0, False),
        (left, 0, True),
        (0, left, True),
        (left, left, True),
        (left, kept, False),
        (unknown, 0, False),
        (CONFLICT, left, False),
    ]
    client, server = (np.array(column, np.uint32) for column in list(zip(*rows, strict=True))[:2])
    assert made.leave_out(client, server).tolist() == [row[2] for row in rows]
    made.select(Selection(exclude=["/in.service"]))
    assert made.leave_out(client[:3], server[:3]).tolist() == [False, True, False]
    made.select(Selection())
    assert not made.leave_out(client, server).any()


def test_a_container_gets_its_name_when_kubelet_has_it(tmp_path: Path) -> None:
    container, logs = "c" * 64, tmp_path / "logs"
    pod = tmp_path / f"tree/kubepods/pod{'a' * 32}" / container
    pod.mkdir(parents=True)
    logs.mkdir()
    one = os.stat(pod).st_ino
    made = Numbering(CgroupPaths(Mount(tmp_path / "tree"), clock=Clock()), ContainerNames(logs))
    (number,) = numbers_of(made, one)
    ((_, early),) = made.take_named()
    assert (early.container, early.container_name, early.pod_name) == (container, None, None)
    assert made.take_named() == ()
    (logs / f"orders_flink_taskmanager-{container}.log").touch()
    os.utime(logs, ns=(1, 1))
    expected = early._replace(container_name="taskmanager", pod_name="flink/orders")
    assert made.take_named() == ((number, expected),)
    assert made.take_named() == ()
    with_process = made.of_process(one, Process(7, "java"))
    assert dict(made.take_named())[with_process] == expected._replace(pid=7, command="java")
