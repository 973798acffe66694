"""The workloads at the endpoints of flows: numbers in the rows, and what each number stands for.

A source numbers workloads from 2 on and never uses a number again. 0 means that the endpoint is not known to be on this
host, :data:`flowmap.model.workload.CONFLICT` that its sockets contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import FlowColumns
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import FlowBatch
from flowmap.model.workload import CONFLICT, CONFLICTING, Local, Workload

LIMIT = 65_536
"""Workloads that are kept. Above it, those without a flow are dropped first, then the oldest."""

Numbers = npt.NDArray[np.uint32]
_NO_ROWS = np.zeros(0, np.int32)
_UNKNOWN = Workload(unknown="the table of workloads is full")


class Workloads:
    """Workloads by number."""

    def __init__(self) -> None:
        self._known: dict[int, Workload] = {CONFLICT: CONFLICTING}
        self._renamed: set[int] = set()
        self._relabelled: list[Rows] = []
        self._told: list[Rows] = []
        self.dropped = 0
        """Workloads of flows that were dropped at the limit."""

    def __len__(self) -> int:
        return len(self._known)

    def get(self, number: int) -> Workload | None:
        """The workload; None for number 0."""
        return self._known.get(number, _UNKNOWN) if number else None

    def numbers(self, admits: Callable[[Workload], bool]) -> list[int]:
        """The numbers of workloads that pass."""
        return [number for number, workload in self._known.items() if admits(workload)]

    def processes(self, numbers: Numbers) -> Numbers:
        """The same numbers, with 0 for those that do not tell for certain which process holds the sockets."""
        different, position = np.unique(numbers, return_inverse=True)
        known = (self.get(number) for number in different.tolist())
        certain = [one is not None and one.pid is not None and one.process_began > 0 for one in known]
        found: Numbers = np.where(certain, different, np.uint32(0))[position.reshape(-1)]
        return found

    def learn(self, named: Iterable[tuple[int, Workload]]) -> None:
        """Set what numbers stand for."""
        for number, workload in named:
            known = self._known.get(number)
            if known is not None and known.labels != workload.labels:
                self._renamed.add(number)
            self._known[number] = workload

    def labels(self, number: int) -> tuple[str, str]:
        """Container and unit as labels; empty for number 0."""
        workload = self.get(number)
        return ("", "") if workload is None else workload.labels

    def take_relabelled(self, columns: FlowColumns, live: Callable[[], Rows]) -> Rows:
        """Rows whose workloads have other labels since the last call; some may be in it twice."""
        rows, self._relabelled = np.concatenate([_NO_ROWS, *self._relabelled]), []
        if self._renamed:
            numbers, used = np.array(sorted(self._renamed), np.uint32), live()
            named = np.isin(columns.client_workload[used], numbers) | np.isin(columns.server_workload[used], numbers)
            rows, self._renamed = np.concatenate((rows, used[named])), set()
        return rows

    def take_told(self) -> Rows:
        """Rows whose client's workload is new or better known since the last call; some may be in it twice."""
        rows, self._told = np.concatenate([_NO_ROWS, *self._told]), []
        return rows

    def local(self, columns: FlowColumns, row: int) -> tuple[Local, ...]:
        """The workloads of a flow that are on this host, the client's first."""
        client, server = self.get(int(columns.client_workload[row])), self.get(int(columns.server_workload[row]))
        found = () if client is None else (Local("client", client),)
        return found if server is None else (*found, Local("server", server))

    def client_cgroups(self, columns: FlowColumns, rows: Rows) -> npt.NDArray[np.uint64]:
        """The cgroup id of the client's socket of each row; 0 where it is not known, or not certain."""
        numbers, position = np.unique(columns.client_workload[rows], return_inverse=True)
        known = (self.get(number) for number in numbers.tolist())
        ids = np.array([0 if one is None else one.cgroup_id for one in known], np.uint64)
        found: npt.NDArray[np.uint64] = ids[position.reshape(-1)]
        return found

    def client_pids(self, columns: FlowColumns, rows: Rows) -> npt.NDArray[np.uint64]:
        """The process that holds the client's socket of each row; 0 where it is not known."""
        numbers, position = np.unique(columns.client_workload[rows], return_inverse=True)
        known = (self.get(number) for number in numbers.tolist())
        ids = np.array([0 if one is None else one.pid or 0 for one in known], np.uint64)
        found: npt.NDArray[np.uint64] = ids[position.reshape(-1)]
        return found

    def note(self, columns: FlowColumns, batch: FlowBatch, rows: Rows) -> None:
        """Note the workloads in records of the rows."""
        for kept, reported in (
            (columns.client_workload, batch.client_workload),
            (columns.server_workload, batch.server_workload),
        ):
            if not reported.any():  # as of all records of conntrack
                continue
            news = np.flatnonzero((reported != 0) & (kept[rows] != reported))
            if not len(news):
                continue
            if kept is columns.client_workload:
                self._told.append(rows[news])
            first = kept[rows[news]] == 0
            self._begin(kept, rows[news[first]], reported[news[first]])
            for at in news[~first].tolist():
                before, after = int(kept[rows[at]]), self._joined(int(kept[rows[at]]), int(reported[at]))
                kept[rows[at]] = after
                if self.labels(before) != self.labels(after):
                    self._relabelled.append(rows[at : at + 1])

    def _begin(self, kept: Numbers, rows: Rows, reported: Numbers) -> None:
        """Note the first workload of each row."""
        kept[rows] = reported
        labelled = [number for number in np.unique(reported).tolist() if any(self.labels(number))]
        changed = rows[np.isin(reported, labelled)]
        if len(changed):
            self._relabelled.append(changed)

    def _joined(self, known: int, reported: int) -> int:
        if known in (0, reported):
            return reported
        before, now = self._known.get(known, _UNKNOWN), self._known.get(reported, _UNKNOWN)
        if known == CONFLICT or not now.cgroup_id:
            return known
        if not before.cgroup_id or (before.cgroup_id, before.namespace) == (now.cgroup_id, now.namespace):
            return reported
        return CONFLICT

    def tidy(self, columns: FlowColumns, live_rows: Callable[[], Rows]) -> None:
        """Drop workloads above the limit."""
        if len(self._known) <= LIMIT:
            return
        live = live_rows()
        used = np.concatenate((columns.client_workload[live], columns.server_workload[live]))
        kept = {CONFLICT, *np.unique(used).tolist()}
        self._known = {number: one for number, one in self._known.items() if number in kept}
        for number in list(self._known)[1 : len(self._known) - LIMIT + 1]:
            del self._known[number]
            self.dropped += 1
