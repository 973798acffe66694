"""Which processes are in a cgroup, from trees of files and from the kernel's own tree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flowmap.system import proc
from flowmap.system.cgroup_members import Groups, Member, descendants, holder_of, members, path_of, pids, trees
from flowmap.system.cgroups import Cgroup, CgroupPaths, Mount, find_mount


def group(place: Path, *pids: int) -> Cgroup:
    place.mkdir(parents=True)
    (place / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return Cgroup(place.stat().st_ino, place)


def process(directory: Path, pid: int, parent: int, command: str) -> None:
    (directory / str(pid)).mkdir()
    (directory / str(pid) / "stat").write_text(f"{pid} ({command}) S {parent} 1 1 0 -1")


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "proc"
    (directory / "self").mkdir(parents=True)
    monkeypatch.setattr(proc, "PROC", directory)
    return directory


def test_members(tmp_path: Path, processes: Path) -> None:
    process(processes, 7, 1, "odd ) (name")
    process(processes, 8, 7, "java")
    assert members(group(tmp_path / "a", 7, 8)) == (Member(7, 1, "odd ) (name"), Member(8, 7, "java"))
    assert members(group(tmp_path / "ended", 8, 9)) == (Member(8, 7, "java"),)
    assert members(group(tmp_path / "outside", 8, 0)) is None
    assert members(Cgroup(5, tmp_path / "gone")) is None


def test_path_of_a_process(tmp_path: Path) -> None:
    assert path_of(tmp_path) == ""
    (tmp_path / "cgroup").write_text("2:cpu:/a\n0::/b/c\n")
    assert path_of(tmp_path) == "/b/c"
    (tmp_path / "cgroup").write_text("2:cpu:/a\n")
    assert path_of(tmp_path) == ""


def test_pids(tmp_path: Path) -> None:
    there = group(tmp_path / "a", 8, 7, 8)
    assert pids(there) == (7, 8)
    assert pids(group(tmp_path / "empty")) == ()
    assert pids(group(tmp_path / "outside", 8, 0)) is None
    assert pids(there._replace(id=there.id + 1)) is None, "another cgroup has the directory now"


@pytest.mark.parametrize(
    ("group", "roots"),
    [
        pytest.param([], [], id="empty"),
        pytest.param([Member(7, 1, "java")], [7], id="one process"),
        pytest.param([Member(7, 1, "java"), Member(8, 7, "python")], [7], id="and its child"),
        pytest.param([Member(6, 1, "tini"), Member(7, 6, "java")], [7], id="started by an init"),
        pytest.param([Member(6, 1, "bash"), Member(7, 6, "java")], [6], id="started by a shell"),
        pytest.param([Member(7, 1, "java"), Member(8, 5, "bash")], [7, 8], id="somebody entered"),
    ],
)
def test_trees(group: list[Member], roots: list[int]) -> None:
    assert [one.pid for one in trees(tuple(group))] == roots


def test_holder_and_its_children(processes: Path) -> None:
    group = (
        Member(6, 1, "bash"),
        Member(7, 6, "java"),
        Member(8, 7, "python"),
        Member(9, 8, "sh"),
        Member(10, 6, "vi"),
    )
    for pid, links in ((7, ["socket:[41]", "socket:[42]"]), (10, ["socket:[43]", "/x"]), (9, ["socket:[43]"])):
        (processes / str(pid) / "fd").mkdir(parents=True)
        for number, link in enumerate(links):
            (processes / str(pid) / "fd" / str(number)).symlink_to(link)
    assert (holder_of(group, 42), holder_of(group, 44), holder_of(group, 43)) == (7, None, None)  # 43: held twice
    assert descendants(group, 7) == {7, 8, 9}


def test_groups_by_id(tmp_path: Path, processes: Path) -> None:
    process(processes, 7, 1, "java")
    process(processes, 8, 5, "bash")
    root = tmp_path / "tree"
    ids = {name: group(root / name, *pids).id for name, pids in (("a/b", [7]), ("c", [7, 8]))}
    groups = Groups(CgroupPaths(Mount(root), pause=0))
    java, bash = Member(7, 1, "java"), Member(8, 5, "bash")
    assert groups.members(ids.values()) == {ids["a/b"]: (java,), ids["c"]: (java, bash)}
    assert groups.members([1 << 50]) == {}
    (root / "c" / "cgroup.procs").unlink()
    (root / "c").rmdir()
    group(root / "c", 7)  # the same path is another group now
    assert groups.members(ids.values())[ids["a/b"]] == (java,)


def test_of_the_kernel() -> None:
    root = find_mount().path
    if os.geteuid() != 0 or root is None or not os.access(root, os.W_OK):
        pytest.skip("needs root and a cgroup v2 tree to make a cgroup")
    place = root / f"flowmap-test-{os.getpid()}"
    place.mkdir()
    try:
        with subprocess.Popen(["sleep", "60"]) as child:
            (place / "cgroup.procs").write_text(str(child.pid))
            (group,) = Groups().members([place.stat().st_ino]).values()
            assert [(one.pid, one.command) for one in group] == [(child.pid, "sleep")]
            child.kill()
    finally:
        place.rmdir()
