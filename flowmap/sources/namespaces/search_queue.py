"""One search for processes that the sources of several namespaces use in turn, so that its share of a core holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from flowmap.sources.workloads.processes import Process, ProcessSearch
from flowmap.system.cgroups import Cgroup


class SearchPart:
    """The search as one source uses it; see :class:`ProcessSearch`. The queue runs it."""

    def __init__(self, queue: SearchQueue) -> None:
        self._queue = queue
        self.wanted: Mapping[int, Cgroup | None] = {}
        self.found: dict[int, Process] = {}
        self.is_idle = True
        """Whether nothing of this source waits or is searched for."""

    def want(self, sockets: Mapping[int, Cgroup | None]) -> None:
        """Search for the holders of these inodes, in turn."""
        if self.is_idle and sockets:
            self.wanted, self.is_idle = sockets, False
            self._queue.add(self)

    def take_found(self) -> dict[int, Process]:
        """The results since the last call."""
        found, self.found = self.found, {}
        return found

    def deadline(self) -> float:
        """Never: the queue has the deadline."""
        return float("inf")

    def step(self) -> None:
        """Nothing: the queue steps."""


class SearchQueue:
    """Sources that wait for the search, at most one request each."""

    def __init__(self, search: ProcessSearch) -> None:
        self._search = search
        self._waiting: deque[SearchPart] = deque()
        self._current: SearchPart | None = None

    def part(self) -> SearchPart:
        """The search for one more source."""
        return SearchPart(self)

    def add(self, part: SearchPart) -> None:
        """Let a source wait for its turn."""
        self._waiting.append(part)
        self._next()

    def deadline(self) -> float:
        """When :meth:`step` is due; infinity without a search."""
        return self._search.deadline()

    def step(self) -> None:
        """Search on for a slice, if one is due."""
        self._search.step()
        self._next()

    def _next(self) -> None:
        if not self._search.is_idle:
            return
        if self._current is not None:
            self._current.found |= self._search.take_found()
            self._current.is_idle, self._current = True, None
        if self._waiting:
            self._current = self._waiting.popleft()
            self._search.want(self._current.wanted)
