"""The paths of cgroups by id, on a tree of plain directories: their inodes stand for ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowmap.sources.workloads import cgroups
from flowmap.sources.workloads.cgroups import CgroupPaths, Mount, find_mount

TREE = ["system.slice/a.service", "system.slice/b.service", "user.slice/deep/er/and/deeper"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 0.01  # every look takes a while
        return self.now


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in TREE:
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "cgroup.procs").write_text("")
    return tmp_path


def paths_of(root: Path | None, clock: Clock | None = None) -> CgroupPaths:
    return CgroupPaths(Mount(root, hybrid=False), clock=clock or Clock())


def inode(path: Path) -> int:
    return os.stat(path).st_ino


def test_every_directory_has_its_path(root: Path) -> None:
    paths = paths_of(root)
    ids = {inode(root / path): f"/{path}" for path in TREE}
    assert paths.find(ids) == ids
    assert paths.find([1]) == {1: "/"}


def test_a_path_stays_known_after_its_directory(root: Path) -> None:
    paths, gone = paths_of(root), inode(root / TREE[0])
    assert paths.find([gone]) == {gone: f"/{TREE[0]}"}
    (root / TREE[0]).rmdir()
    assert paths.find([gone]) == {gone: f"/{TREE[0]}"}


def test_removed_before_it_was_read(root: Path) -> None:
    gone = inode(root / TREE[0])
    (root / TREE[0]).rmdir()
    assert paths_of(root).find([gone]) == {gone: None}


def test_walks_take_a_small_part_of_the_time(root: Path) -> None:
    clock = Clock()
    paths = paths_of(root, clock)
    one, other = (inode(root / path) for path in TREE[:2])
    paths.find([999])
    (root / "new").mkdir()
    new = inode(root / "new")
    assert paths.find([one, new]) is None
    assert paths.find([one, other]) == {one: f"/{TREE[0]}", other: f"/{TREE[1]}"}
    clock.now += 1
    assert paths.find([one, new]) == {one: f"/{TREE[0]}", new: "/new"}


def test_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    paths = paths_of(root, clock)
    paths.find([inode(root / path) for path in TREE])
    monkeypatch.setattr(cgroups, "LIMIT", 2)
    clock.now += 1
    paths.find([999])
    assert len(paths) == 2


def test_without_a_tree() -> None:
    assert paths_of(None).find([5]) == {5: None}


V2 = "31 1 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
UNIFIED = "41 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
V1 = "42 31 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
SPACE = "43 1 0:30 / /mnt/a\\040b rw shared:1 - cgroup2 none rw\n"
OTHERS = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\nnonsense\n"

MOUNTS = [
    (V2 + OTHERS, "/sys/fs/cgroup", False),
    (OTHERS + V1 + UNIFIED, "/sys/fs/cgroup/unified", True),
    (UNIFIED + V2, "/sys/fs/cgroup", False),
    (SPACE, "/mnt/a b", False),
    (V1 + OTHERS, None, True),
    ("", None, False),
]


@pytest.mark.parametrize(("text", "path", "hybrid"), MOUNTS)
def test_find_mount(tmp_path: Path, text: str, path: str | None, hybrid: bool) -> None:
    (tmp_path / "mountinfo").write_text(text)
    mount = find_mount(tmp_path / "mountinfo")
    assert (mount.path, mount.hybrid) == (None if path is None else Path(path), hybrid)
    assert bool(mount.cause) == (path is None)


def test_hidden_mounts(tmp_path: Path) -> None:
    mount = find_mount(tmp_path / "mountinfo")
    assert mount.path is None and "cannot be read" in mount.cause
