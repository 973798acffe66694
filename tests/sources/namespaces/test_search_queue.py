"""Sources of several namespaces use one search for processes in turn."""

from __future__ import annotations

from collections.abc import Mapping

from flowmap.sources.namespaces.search_queue import SearchQueue
from flowmap.sources.workloads.processes import Process, ProcessSearch
from flowmap.system.cgroups import Cgroup


class Search(ProcessSearch):
    """Ends each search at the next step; the process of inode N is N."""

    def __init__(self) -> None:
        super().__init__()
        self.searches: list[list[int]] = []
        self.running: list[int] = []
        self.ready: dict[int, Process] = {}

    @property
    def is_idle(self) -> bool:
        return not self.running

    def want(self, sockets: Mapping[int, Cgroup | None]) -> None:
        self.running = list(sockets)
        self.searches.append(self.running)

    def step(self) -> None:
        self.ready = {inode: Process(inode) for inode in self.running}
        self.running = []

    def take_found(self) -> dict[int, Process]:
        return self.ready


def test_each_gets_its_own_results_in_turn() -> None:
    search = Search()
    queue = SearchQueue(search)
    one, two = queue.part(), queue.part()
    one.want({7: None})
    two.want({8: None, 9: None})
    one.want({10: None})  # it waits already
    assert (search.searches, one.is_idle, two.is_idle) == ([[7]], False, False)
    queue.step()
    assert (one.take_found(), one.is_idle, two.take_found()) == ({7: Process(7)}, True, {})
    queue.step()
    assert (two.take_found(), two.is_idle) == ({8: Process(8), 9: Process(9)}, True)
    assert search.searches == [[7], [8, 9]]


def test_nothing_wanted_is_no_search() -> None:
    search = Search()
    part = SearchQueue(search).part()
    part.want({})
    assert part.is_idle and not search.searches
    assert part.deadline() == float("inf")
