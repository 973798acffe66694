"""Chooses the series of flows: by their owners, the peer, and the workload on this host where a label names it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from flowmap.export.series import SeriesKey, SeriesKind
from flowmap.export.series_table import Ids, SeriesTable
from flowmap.flows import bursts
from flowmap.flows.columns import Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.address import protocol_name
from flowmap.model.deployment import Owner

Owned = tuple[SeriesKind, tuple[Owner, ...], str]
"""Kind, owners and reason of a series."""

_OPEN = np.uint32(Row.OPEN)


class SeriesChoice:
    """The series of flows of one table."""

    def __init__(self, table: FlowTable, series_table: SeriesTable, peer: Callable[[int], str]) -> None:
        """``peer``: the peer label of a service endpoint, by its number."""
        self._table, self._series_table, self._peer = table, series_table, peer

    def ids(self, owned: Owned, rows: Rows, now: float) -> Ids:
        """The series of flows with the same owners."""
        columns = self._table.columns
        pairs = columns.service[rows].astype(np.int64) << 32 | self._workloads(rows)
        distinct, position = np.unique(pairs, return_inverse=True)
        keys = (self._key(owned, pair >> 32, pair & 0xFFFF_FFFF) for pair in distinct.tolist())
        series = [self._series_table.series(key, now=now) for key in keys]
        found: Ids = np.array(series, np.int32)[position.reshape(-1)]
        return found

    def move(self, now: float) -> None:
        """Move open flows whose workload is better known to the series of its labels. Their counted bytes and their
        connection stay where they are."""
        rows = self._table.workloads.take_relabelled(self._table.columns, self._table.live)
        if not self._series_table.labels.has_workload or not len(rows):
            return
        columns = self._table.columns
        rows = np.unique(rows)
        decided = (columns.series[rows] >= 0) & (columns.flags[rows] & _OPEN != 0)
        rows = rows[decided & ~bursts.is_unconfirmed(columns, rows)]
        before = columns.series[rows]
        pairs = zip(before.tolist(), self._workloads(rows).tolist(), strict=True)
        ids = np.array([self._relabelled(series, number, now) for series, number in pairs], np.int32)
        moved = ids != before
        self._series_table.closed(before[moved])
        self._series_table.opened(ids[moved], np.zeros(int(moved.sum()), np.bool_))
        columns.series[rows[moved]] = ids[moved]

    def _workloads(self, rows: Rows) -> npt.NDArray[np.int64]:
        """The number of the workload that labels name, by row; 0 without such a label."""
        if not self._series_table.labels.has_workload:
            return np.zeros(len(rows), np.int64)
        columns = self._table.columns
        client, server = columns.client_workload[rows], columns.server_workload[rows]
        return np.where(client != 0, client, server).astype(np.int64)

    def _key(self, owned: Owned, service: int, number: int) -> SeriesKey:
        protocol = protocol_name(self._table.endpoints.key(service).protocol)
        return SeriesKey(*owned, self._peer(service), protocol, *self._table.workloads.labels(number))

    def _relabelled(self, series: int, number: int, now: float) -> int:
        key = self._series_table.key(series)
        container, unit = self._table.workloads.labels(number)
        return self._series_table.series(key._replace(container=container, unit=unit), now=now)
