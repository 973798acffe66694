"""TaskManagers of this host by their listening sockets, and whether their cgroup is their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import pytest

from flowmap.control.flink import host as flink_host
from flowmap.control.flink.host import KEPT, HostFacts, Listener
from flowmap.control.flink.records import Host as Named
from flowmap.control.flink.records import ListedTaskManager
from flowmap.errors import SourceError
from flowmap.model.address import Address, Endpoint
from flowmap.model.tenure import LocalProcess
from flowmap.system.cgroup_members import Member

HERE = Address.parse("10.0.0.5")
EVER, NEVER = math.inf, -math.inf


class FakeHost:
    """Listening sockets, and by cgroup the number of its process trees. The first one holds every socket there."""

    def __init__(self, listening: Mapping[str, int], trees: Mapping[int, int], *, hidden: bool = False) -> None:
        self.listening, self.trees, self.refused, self.hidden = listening, trees, False, hidden

    def listeners(self) -> Iterable[Listener]:
        if self.refused:
            raise SourceError("refused")
        for text, cgroup in self.listening.items():
            host, _, port = text.rpartition(":")
            yield Listener(Endpoint(Address.parse(host.strip("[]")), int(port)), cgroup, 7)

    def members(self, cgroups: Collection[int]) -> Mapping[int, tuple[Member, ...]]:
        """Two processes for each tree: 100 and 101, then 200 and 201."""
        return {one: processes(self.trees[one]) for one in cgroups if one in self.trees}

    def holder_of(self, group: tuple[Member, ...], inode: int) -> int | None:
        return None if self.hidden or not group else group[0].pid


def processes(trees: int) -> tuple[Member, ...]:
    roots = range(100, 100 + 100 * trees, 100)
    return tuple(one for pid in roots for one in (Member(pid, 1, "java"), Member(pid + 1, pid, "python")))


def listed(name: str, rpc: int = 6122, data: int = 7000) -> ListedTaskManager:
    return ListedTaskManager(name, Named("10.0.0.5", rpc), data, None, (1, 1, 0))


A = ("a", listed("a"), (HERE,))
B = ("b", listed("b", 6123, 7001), (HERE,))
OF_A = {"[::]:6122": 50, "10.0.0.5:7000": 50}
OF_B = {"0.0.0.0:6123": 60, "[::]:7001": 60}
OWN = frozenset((100, 101))


def alone(name: str, cgroup: int) -> LocalProcess:
    return LocalProcess(name, cgroup, pids=OWN)


def mixed(name: str, cgroup: int, *, pids: frozenset[int] = OWN) -> LocalProcess:
    return LocalProcess(name, cgroup, NEVER, EVER, pids)


@pytest.mark.parametrize(
    ("listening", "trees", "expected"),
    [
        pytest.param(OF_A, {50: 1}, [alone("a", 50)], id="its own cgroup"),
        pytest.param(OF_A, {50: 2}, [mixed("a", 50)], id="beside others"),
        pytest.param(OF_A, {}, [mixed("a", 50, pids=frozenset())], id="processes that cannot be read"),
        pytest.param(OF_A | {"10.0.0.5:7000": 51}, {50: 1, 51: 1}, [], id="listeners in two cgroups"),
        pytest.param({"[::]:6122": 50}, {50: 1}, [], id="one listener"),
        pytest.param(OF_A | {"[::]:7000": 51}, {50: 1}, [], id="two sockets on a port"),
        pytest.param(dict.fromkeys(OF_A, 1), {1: 9}, [mixed("a", 1)], id="in the root cgroup"),
        pytest.param(dict.fromkeys(OF_A, 1), {}, [mixed("a", 1, pids=frozenset())], id="cgroups of version 1"),
        pytest.param(dict.fromkeys(OF_A, 0), {}, [], id="a kernel that does not tell"),
        pytest.param(OF_A | OF_B, {50: 1, 60: 1}, [alone("a", 50), alone("b", 60)], id="two TaskManagers"),
        pytest.param(
            dict.fromkeys(OF_A | OF_B, 50),
            {50: 1},
            [mixed("a", 50), mixed("b", 50)],
            id="two in one cgroup",
        ),
    ],
)
def test_cgroup_of_a_task_manager(
    listening: Mapping[str, int], trees: Mapping[int, int], expected: list[LocalProcess]
) -> None:
    facts = HostFacts("prod", FakeHost(listening, trees), frozenset((HERE,)))
    facts.read([A, B], 10.0)
    assert list(facts.of({"a", "b"})) == expected


def test_task_managers_of_other_hosts_are_not_looked_for() -> None:
    host = FakeHost(OF_A, {50: 1})
    host.refused = True
    facts = HostFacts("prod", host, frozenset((Address.parse("10.0.0.6"),)))
    facts.read([A], 10.0)
    assert facts.of({"a"}) == ()


def test_a_program_that_enters_the_cgroup_makes_it_mixed_from_the_last_look_on() -> None:
    host = FakeHost(OF_A, {50: 1})
    facts = HostFacts("prod", host, frozenset((HERE,)))
    facts.read([A], 10.0)
    host.trees = {50: 2}
    facts.read([A], 12.0)
    assert facts.of({"a"}) == (LocalProcess("a", 50, 10.0, EVER, OWN),)
    host.trees = {50: 1}
    facts.read([A], 14.0)
    assert facts.of({"a"}) == (LocalProcess("a", 50, 10.0, 14.0, OWN),)
    host.trees = {50: 2}
    facts.read([A], 16.0)
    assert facts.of({"a"}) == (LocalProcess("a", 50, 10.0, EVER, OWN),)


def test_descriptors_that_cannot_be_read_tell_no_process() -> None:
    facts = HostFacts("prod", FakeHost(OF_A, {50: 2}, hidden=True), frozenset((HERE,)))
    facts.read([A], 10.0)
    assert facts.of({"a"}) == (mixed("a", 50, pids=frozenset()),)


class Children(FakeHost):
    """A TaskManager in a cgroup with others, whose processes a test sets."""

    def __init__(self) -> None:
        super().__init__(OF_A, {50: 2})
        self.group = processes(2)

    def members(self, cgroups: Collection[int]) -> Mapping[int, tuple[Member, ...]]:
        return {50: self.group}


def test_ended_children_are_remembered_for_a_while() -> None:
    host = Children()
    facts = HostFacts("prod", host, frozenset((HERE,)))

    def pids(now: float) -> list[int]:
        facts.read([A], now)
        (known,) = facts.of({"a"})
        return sorted(known.pids)

    assert pids(10.0) == [100, 101]
    host.group = tuple(one for one in host.group if one.pid != 101)
    assert pids(12.0) == pids(10.0 + KEPT) == [100, 101]
    assert pids(11.0 + KEPT) == [100]


def test_a_pid_that_another_program_has_now_is_not_the_task_managers() -> None:
    host = Children()
    facts = HostFacts("prod", host, frozenset((HERE,)))
    facts.read([A], 10.0)
    host.group = tuple(one._replace(parent=200) if one.pid == 101 else one for one in host.group)
    facts.read([A], 12.0)
    (known,) = facts.of({"a"})
    assert known.pids == {100}


def test_processes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flink_host, "CHILDREN", 2)
    host = Children()
    host.group = tuple(Member(pid, 1 if pid == 100 else 100, "java") for pid in (100, 101, 102, 103))
    facts = HostFacts("prod", host, frozenset((HERE,)))
    facts.read([A], 10.0)
    (known,) = facts.of({"a"})
    assert len(known.pids) == 2


def test_what_is_known_stays_known_after_the_process() -> None:
    host = FakeHost(OF_A, {50: 1})
    facts = HostFacts("prod", host, frozenset((HERE,)))
    facts.read([A], 10.0)
    host.listening = {}
    facts.read([A], 12.0)
    host.refused = True
    facts.read([A], 14.0)
    assert facts.of({"a"}) == (alone("a", 50),)
