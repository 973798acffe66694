"""The paths of cgroups by id, on a tree of plain directories: their inodes stand for ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowmap.system import cgroups
from flowmap.system.cgroups import Cgroup, CgroupPaths, Mount, find_mount

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
    clock = clock or Clock()
    return CgroupPaths(Mount(root), clock=clock, used=clock)


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
    """Those that are asked for are kept, wherever they are in the tree."""
    monkeypatch.setattr(cgroups, "LIMIT", 2)
    ids = {inode(root / path): f"/{path}" for path in TREE}
    for one, path in ids.items():
        paths = paths_of(root)
        assert paths.find([one]) == {one: path}
        assert (len(paths), paths.dropped) == (2, 7)  # with the root
        assert paths.find([one]) == {one: path}


def test_a_directory_that_goes_during_the_walk_hides_no_other_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {inode(root / path): f"/{path}" for path in TREE}
    leaf = cgroups.is_leaf

    def is_leaf(entry: os.DirEntry[str]) -> bool:
        if entry.name == "system.slice":
            for name in ("a.service", "b.service"):
                (root / "system.slice" / name).rmdir()
        return leaf(entry)

    monkeypatch.setattr(cgroups, "is_leaf", is_leaf)
    assert paths_of(root).find(ids) == {one: path if "user" in path else None for one, path in ids.items()}


def test_a_cgroup_is_known_by_its_id(root: Path) -> None:
    paths, one = paths_of(root), inode(root / TREE[0])
    assert paths.cgroup(one) is None
    paths.find([one])
    found = paths.cgroup(one)
    assert found == Cgroup(one, root / TREE[0])
    os.close(found.open())
    with pytest.raises(FileNotFoundError):
        found._replace(id=one + 1).open()
    (root / TREE[0]).rmdir()
    with pytest.raises(FileNotFoundError):
        found.open()


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


def test_a_whole_tree_comes_before_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that has the host's tree beside its own part."""
    (tmp_path / "mountinfo").write_text(V2 + SPACE)
    monkeypatch.setattr(cgroups, "is_whole", lambda tree: str(tree) == "/mnt/a b")
    assert find_mount(tmp_path / "mountinfo").path == Path("/mnt/a b")


def test_hidden_mounts(tmp_path: Path) -> None:
    mount = find_mount(tmp_path / "mountinfo")
    assert mount.path is None and str(tmp_path) in mount.cause
