"""Processes of sockets, on a /proc of plain files: found, shared, gone, refused, and in small slices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flowmap.sources.workloads import processes
from flowmap.sources.workloads.processes import ALONE, NOT_FOUND, SHARE, SLICE, UNREADABLE, Process, ProcessSearch
from flowmap.system.cgroups import Cgroup


class Clock:
    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Host:
    """A /proc and a tree of cgroups."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroup"
        (self.proc / "1" / "fd").mkdir(parents=True)
        self.cgroups.mkdir()

    def process(self, pid: int, command: str, *inodes: int, cgroup: str = "a") -> Cgroup:
        fd = self.proc / str(pid) / "fd"
        fd.mkdir(parents=True)
        for number, inode in enumerate(inodes):
            (fd / str(number)).symlink_to(f"socket:[{inode}]")
        (fd / "99").symlink_to("/dev/null")
        (self.proc / str(pid) / "comm").write_text(f"{command}\n")
        (self.proc / str(pid) / "cgroup").write_text(f"1:name=systemd:/\n0::/{cgroup}\n")
        return self.join(cgroup, pid)

    def join(self, cgroup: str, pid: int) -> Cgroup:
        directory = self.cgroups / cgroup
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "cgroup.procs").open("a") as file:
            file.write(f"{pid}\n")
        return Cgroup(directory.stat().st_ino, directory)

    def search(self, wanted: dict[int, Cgroup | None], clock: Clock | None = None) -> dict[int, Process]:
        search = ProcessSearch(proc=self.proc, clock=clock or Clock())
        search.want(wanted)
        search.step()
        assert search.deadline() == float("inf")
        return search.take_found()


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_holder_is_found_by_its_descriptors(machine: Host) -> None:
    group = machine.process(12, "java", 70, 71)
    machine.process(13, "sh", 72)
    machine.process(14, "other", 73, cgroup="b")
    found = machine.search({70: group, 71: group, 72: group, 73: group, 74: group})
    assert found == {
        70: Process(12, "java"),
        71: Process(12, "java"),
        72: Process(13, "sh"),
        73: Process(14, "other", cgroup="/b"),  # passed on to a process of another cgroup
        74: Process(unknown=NOT_FOUND),
    }


def test_without_a_cgroup_all_processes_are_read(machine: Host) -> None:
    machine.process(12, "java", 70)
    (machine.proc / "sys").mkdir()
    assert machine.search({70: None}) == {70: Process(12, "java", cgroup="/a")}
    (machine.proc / "12" / "cgroup").unlink()
    assert machine.search({70: None}) == {70: Process(12, "java")}


@pytest.mark.parametrize(("other", "command"), [("nginx", "nginx"), ("worker", None)])
def test_a_socket_of_several_processes_has_none(machine: Host, other: str, command: str | None) -> None:
    machine.process(12, "nginx", 70)
    group = machine.process(13, other, 70)
    assert machine.search({70: group}) == {70: Process(None, command, "2 processes hold the socket: 12, 13")}


def refuse(monkeypatch: pytest.MonkeyPatch, *pids: int) -> None:
    real = os.open

    def opened(path: Any, *arguments: Any, **more: Any) -> int:
        if Path(path).parent.name in {str(pid) for pid in pids}:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", opened)


def test_the_only_process_of_a_cgroup_that_cannot_be_read(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    group = machine.process(12, "java", 70)
    refuse(monkeypatch, 12)
    assert machine.search({70: group}) == {70: Process(12, "java", ALONE)}


@pytest.mark.parametrize("case", ["several", "below", "systemd", "outside"])
def test_where_a_cgroup_does_not_name_the_process(machine: Host, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    group = machine.process(12, "java", 70, cgroup="init.scope" if case == "systemd" else "a")
    if case == "several":
        machine.process(13, "sh")
    elif case == "below":
        (group.directory / "b").mkdir()
    elif case == "outside":
        machine.join("a", 0)
    refuse(monkeypatch, 12, 13)
    assert machine.search({70: group}) == {70: Process(unknown=UNREADABLE)}


def test_another_cgroup_in_the_place_of_the_sockets_names_no_process(
    machine: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = machine.process(12, "java", 70)
    refuse(monkeypatch, 12)
    assert machine.search({70: group._replace(id=group.id + 1)}) == {70: Process(unknown=UNREADABLE)}


def test_the_only_process_ends_while_its_name_is_read(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pid is another process's by then, as its cgroup shows."""
    group = machine.process(12, "java", 70)
    refuse(monkeypatch, 12)
    real = Path.read_bytes

    def late(file: Path) -> bytes:
        if file.name == "comm":
            (group.directory / "cgroup.procs").write_text("")
        return real(file)

    monkeypatch.setattr(Path, "read_bytes", late)
    assert machine.search({70: group}) == {70: Process(unknown=UNREADABLE)}


@pytest.mark.parametrize("what", ["directory", "links"])
def test_descriptors_of_a_process_with_more_capabilities(
    machine: Host, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The user may list them, but not see where they lead."""
    group = machine.process(12, "java", 70)
    machine.process(13, "sh")

    def forbidden(*arguments: Any, **more: Any) -> str:
        raise PermissionError(13, "Permission denied")

    if what == "links":
        monkeypatch.setattr(os, "readlink", forbidden)
    else:
        refuse(monkeypatch, 12)
    assert machine.search({70: group}) == {70: Process(unknown=UNREADABLE)}


def test_an_ended_process_has_no_socket(machine: Host) -> None:
    group = machine.process(12, "java", 70)
    (machine.proc / "12" / "comm").unlink()
    assert machine.search({70: group}) == {70: Process(unknown=NOT_FOUND)}


def test_hidden_proc(machine: Host) -> None:
    search = ProcessSearch(proc=machine.proc / "nothing", clock=Clock())
    search.want({70: None, 71: Cgroup(5, machine.cgroups / "gone")})
    search.step()
    assert search.take_found() == {70: Process(unknown=UNREADABLE), 71: Process(unknown=UNREADABLE)}


def test_a_hidden_process_is_not_said_to_have_ended(machine: Host) -> None:
    """As with hidepid or ProtectProc: /proc has no directory, and yet the process exists."""
    several = machine.join("a", os.getpid())
    machine.join("a", os.getppid())
    assert machine.search({70: several}) == {70: Process(unknown=UNREADABLE)}
    alone = machine.join("b", os.getpid())
    assert machine.search({70: alone}) == {70: Process(os.getpid(), None, ALONE)}


def test_a_command_of_any_bytes(machine: Host) -> None:
    group = machine.process(12, "", 70)
    (machine.proc / "12" / "comm").write_bytes(b"a\xffb\n")
    assert machine.search({70: group}) == {70: Process(12, "a\\xffb")}


def test_a_search_takes_its_share_of_the_time(machine: Host) -> None:
    for pid in range(2, 42):
        group = machine.process(pid, "java", pid)
    clock = Clock(step=SLICE / 4)
    search = ProcessSearch(proc=machine.proc, clock=clock, used=clock)
    search.want(dict.fromkeys(range(2, 42), group))
    slices, worked, began = 0, 0.0, clock.now
    while search.deadline() < float("inf"):
        clock.now = max(clock.now, search.deadline())
        before = clock.now
        search.step()
        slices, worked = slices + 1, worked + clock.now - before
        assert clock.now - before <= 3 * SLICE
    assert slices > 5
    assert worked / (clock.now - began) < 1.5 / SHARE * 1.2
    assert set(search.take_found()) == set(range(2, 42))


def test_time_in_which_others_had_the_processor_does_not_count(machine: Host) -> None:
    for pid in range(2, 42):
        group = machine.process(pid, "java", pid)
    clock = Clock(step=SLICE)
    search = ProcessSearch(proc=machine.proc, clock=clock, used=lambda: 0.0)
    search.want(dict.fromkeys(range(2, 42), group))
    search.step()
    assert search.deadline() <= clock.now


def test_a_new_search_waits_for_the_one_that_runs(machine: Host) -> None:
    group = machine.process(12, "java", 70, 71)
    search = ProcessSearch(proc=machine.proc, clock=Clock())
    search.want({70: group})
    search.want({71: group})
    search.step()
    assert set(search.take_found()) == {70}
    search.want({})
    assert search.deadline() == float("inf")


def test_limit(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LIMIT", 2)
    group = machine.process(12, "java", 70, 71, 72)
    assert len(machine.search({70: group, 71: group, 72: group})) == 2
