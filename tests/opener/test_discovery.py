"""Which network namespaces a search finds; with files that stand in for /proc, and real ones in tests/kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flowmap.opener.discovery import Found, MountWatch, is_path, own_inode, search

OWN = Path("/proc/self/ns/net")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A /proc with three processes in two namespaces (files stand in), and a directory of named namespaces."""
    proc = tmp_path / "proc"
    for pid in ("self", "10", "11", "12", "notes"):
        (proc / pid / "ns").mkdir(parents=True)
    (proc / "self/ns/net").touch()
    (proc / "10/ns/net").hardlink_to(proc / "self/ns/net")
    (proc / "11/ns/net").touch()
    (proc / "notes/ns/net").touch()
    named = tmp_path / "netns"
    named.mkdir()
    (named / "blue").hardlink_to(proc / "11/ns/net")
    (named / "red").touch()
    (named / "empty").symlink_to("/proc/version")  # of another file system, as a file without a namespace on it
    return proc, named


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_all(places: tuple[Path, Path]) -> None:
    proc, named = places
    found = search(None, proc=proc, directories=[named, named / "absent"])
    own = inode(proc / "self/ns/net")
    assert found.namespaces == {
        own: Found(own, f"{proc}/10/ns/net", None),
        inode(named / "blue"): Found(inode(named / "blue"), f"{named}/blue", "blue"),
        inode(named / "red"): Found(inode(named / "red"), f"{named}/red", "red"),
    }
    assert (found.hidden, found.missing) == (0, ())


@pytest.mark.parametrize(
    ("wanted", "names", "missing"),
    [
        (["blue"], ["blue"], ()),
        (["blue", "red"], ["blue", "red"], ()),
        (["empty"], [], ("empty",)),
        (["nowhere", "red"], ["red"], ("nowhere",)),
        (["a\0b"], [], ("a\0b",)),
        ([], [], ()),
    ],
)
def test_by_name(places: tuple[Path, Path], wanted: list[str], names: list[str], missing: tuple[str, ...]) -> None:
    proc, named = places
    found = search(wanted, proc=proc, directories=[named])
    assert [one.name for one in found.namespaces.values()] == names
    assert found.missing == missing


def test_by_path(places: tuple[Path, Path]) -> None:
    proc, named = places
    found = search([f"{named}/red"], proc=proc, directories=[])
    assert [(one.path, one.name) for one in found.namespaces.values()] == [(f"{named}/red", "red")]


def test_a_path_in_proc_gives_no_name() -> None:
    found = search(["/proc/self/ns/net"])
    assert [(one.inode, one.name) for one in found.namespaces.values()] == [(OWN.stat().st_ino, None)]


def test_at_most_eight_missing_names_are_listed() -> None:
    assert len(search([f"absent-{number}" for number in range(20)]).missing) == 8


def test_processes_that_may_not_be_read_are_counted(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    proc, _ = places
    real = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if str(path).endswith("/11/ns/net"):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr("flowmap.opener.discovery.os.stat", refuse)
        found = search(None, proc=proc, directories=[])
    assert (found.hidden, list(found.namespaces)) == (1, [inode(proc / "self/ns/net")])


def test_own_inode() -> None:
    assert own_inode() == OWN.stat().st_ino


def test_paths() -> None:
    assert is_path("/run/netns/blue")
    assert not is_path("blue")


def test_mounts_can_be_watched() -> None:
    mounts = MountWatch()
    assert mounts.fileno() >= 0
    mounts.close()
    assert mounts.fileno() == -1


def test_without_proc_no_mounts_are_watched(tmp_path: Path) -> None:
    assert MountWatch(tmp_path).fileno() == -1
