"""What ``flowmap check`` reports about containers and processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowmap.sources.base import Finding
from flowmap.sources.workloads import check
from flowmap.system.cgroups import Mount
from flowmap.system.privileges import Capability

NO_TREE = Mount(None, cause="no cgroup v2 tree is mounted here")


@pytest.fixture(autouse=True)
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trees here are visible from their root on."""
    monkeypatch.setattr(check, "is_whole", lambda _: True)


def rows(cgroups: set[int], mount: Mount, processes: str = "off") -> dict[str, Finding]:
    return {one.name: one for one in check.findings(cgroups, processes=processes, mount=mount)}


@pytest.mark.parametrize(
    ("ids", "hybrid", "level", "words"),
    [
        ("visible", False, "ok", "are known from"),
        ("visible", True, "degraded", "cgroup v1 is in use"),
        ("hidden", False, "degraded", "1 of 2 cgroups with sockets are not in the tree"),
        ("none", False, "degraded", "the kernel reports no cgroups"),
        ("root", False, "ok", "are known from"),
        ("root", True, "degraded", "every socket is in the root"),
        ("no sockets", False, "ok", "are known from"),
    ],
)
def test_containers(tmp_path: Path, ids: str, hybrid: bool, level: str, words: str) -> None:
    (tmp_path / "a.service").mkdir()
    one = os.stat(tmp_path / "a.service").st_ino
    given = {"visible": {one, 0}, "hidden": {one, 1 << 60}, "none": {0}, "no sockets": set[int](), "root": {0, 1}}
    found = rows(given[ids], Mount(tmp_path, hybrid=hybrid))["sockets.containers"]
    assert found.level == level and words in found.message
    assert bool(found.remedy) == (level != "ok")


@pytest.mark.parametrize(("hybrid", "remedy"), [(False, check.MOUNT), (True, check.UNIFIED)])
def test_without_a_tree(hybrid: bool, remedy: str) -> None:
    found = rows({1}, NO_TREE._replace(hybrid=hybrid))["sockets.containers"]
    assert (found.level, found.remedy) == ("degraded", remedy) and NO_TREE.cause in found.message


@pytest.mark.parametrize("cgroups", [{1 << 60}, set[int](), {1}])
def test_a_part_of_the_tree_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroups: set[int]) -> None:
    monkeypatch.setattr(check, "is_whole", lambda _: False)
    found = rows(cgroups, Mount(tmp_path))["sockets.containers"]
    assert found.level == "degraded" and "a part of the host's" in found.message


def test_names_of_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "DIRECTORY", tmp_path / "logs")
    assert "names of Kubernetes containers are not" in rows(set(), Mount(tmp_path))["sockets.containers"].message
    (tmp_path / "logs").mkdir()
    assert "Kubernetes" not in rows(set(), Mount(tmp_path))["sockets.containers"].message


PROCESSES = [
    # readable, CAP_SYS_PTRACE held, own pid namespace, setting, reached, level, words
    (True, True, False, "all", True, "ok", "can be read"),
    (True, True, False, "auto", False, "ok", "drops CAP_SYS_PTRACE"),
    (True, False, False, "auto", True, "ok", "can be read"),
    (False, False, False, "auto", False, "ok", "others need CAP_SYS_PTRACE"),
    (False, False, False, "all", False, "degraded", "CAP_SYS_PTRACE is missing"),
    (True, True, True, "all", False, "degraded", "only processes of this pid namespace"),
    (False, False, True, "auto", False, "ok", "in this pid namespace"),
    (True, True, False, "off", False, "ok", "not searched for"),
]


@pytest.mark.parametrize(("readable", "held", "own", "setting", "reached", "level", "words"), PROCESSES)
def test_processes(
    monkeypatch: pytest.MonkeyPatch,
    readable: bool,
    held: bool,
    own: bool,
    setting: str,
    reached: bool,
    level: str,
    words: str,
) -> None:
    monkeypatch.setattr(check, "held", lambda: {Capability.SYS_PTRACE} if held else set())
    monkeypatch.setattr(check, "_reads_others", lambda: readable)
    monkeypatch.setattr(check, "_is_in_pid_namespace", lambda: own)
    found = rows(set(), NO_TREE, setting)
    assert found["sockets.processes"].level == level and words in found["sockets.processes"].message
    assert bool(found["sockets.processes"].remedy) == (level != "ok")
    reached_part, _, other = found["sockets.rung"].message.partition("; not reached: ")
    assert ("processes" in reached_part, "processes" in other) == (reached, not reached)


def test_the_rung_names_each_once(tmp_path: Path) -> None:
    found = rows(set(), Mount(tmp_path))
    assert found["sockets.rung"].message == (
        "reached: host namespace, containers; not reached: all namespaces, processes"
    )
    assert list(found) == [
        "sockets.rung",
        "sockets.scope",
        "sockets.containers",
        "sockets.namespaces",
        "sockets.processes",
    ]
    assert "host namespace; not" in rows(set(), NO_TREE)["sockets.rung"].message


def test_a_source_without_the_socket_table_reaches_none() -> None:
    found = check.not_read("conntrack")
    assert (found.name, found.level) == ("sockets.rung", "ok") and "collect.source: conntrack" in found.message
