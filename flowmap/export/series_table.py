"""Running totals of every traffic series. One thread writes; readers get a frozen copy.

Series are rows of columns; an id is a row number. ``max_series`` (at least 3) limits the rows:

- three rows are reserved for the last series of each kind, which has no owner and collects what does not fit elsewhere;
- nine tenths of the others are for series with their own peer;
- the rest is for series with peer ``other``, so a deployment at the limit keeps its name.

No traffic is dropped, so the totals stay exact. A series without traffic and open connections for ``idle_after``
expires: its row is reused and its bytes move to ``expired``. Moving them to another live series would make ``rate()``
count them twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from flowmap.export.open_flows import OpenFlows
from flowmap.export.series import KINDS, OTHER, SeriesKey, SeriesKind, SeriesLabels, last_resort
from flowmap.export.snapshot import SeriesSnapshot, Totals, exact_sum
from flowmap.model.views import ByteCount

__all__ = ["Ids", "SeriesKey", "SeriesKind", "SeriesTable"]

Ids = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]

_CODE = {kind: np.uint8(1 + place) for place, kind in enumerate(KINDS)}
_COLUMNS: dict[str, np.dtype[np.generic]] = {
    "kinds": np.dtype(np.uint8),
    "transmit_bytes": np.dtype(np.uint64),
    "receive_bytes": np.dtype(np.uint64),
    "transmit_packets": np.dtype(np.uint64),
    "receive_packets": np.dtype(np.uint64),
    "connections": np.dtype(np.uint64),
    "retransmits": np.dtype(np.uint64),
    "open_connections": np.dtype(np.int64),
    "active": np.dtype(np.float64),
}
_FROZEN = [field.name for field in fields(SeriesSnapshot) if field.name in _COLUMNS]
_FIRST_CAPACITY = 256


class SeriesTable:
    """The totals of all series. Times are monotonic seconds; ids are valid until their series expires."""

    kinds: npt.NDArray[np.uint8]
    transmit_bytes: U64
    receive_bytes: U64
    transmit_packets: U64
    receive_packets: U64
    connections: U64
    retransmits: U64
    open_connections: npt.NDArray[np.int64]
    active: npt.NDArray[np.float64]

    def __init__(self, *, labels: Sequence[str], max_series: int, idle_after: float) -> None:
        """``idle_after`` is in seconds. ConfigError for unknown or repeated ``labels``."""
        self.labels = SeriesLabels(labels)
        self.generation = 0
        """Grows when series expire: kept ids of series without an open connection may then be invalid."""
        self.folded = 0
        """Look-ups at the limit that were folded into ``other`` or into the last series of the kind."""
        self.expired = ByteCount()
        self._max_series = max(max_series, len(KINDS))
        self._named = self._max_series - len(KINDS)  # the last series of each kind always fits
        self._with_peer = self._named - (self._named + 9) // 10
        self.idle_after = idle_after
        self._rows: dict[tuple[SeriesKind, str], int] = {}
        self._free: list[int] = []
        self._keys: list[SeriesKey | None] = []
        self._texts: list[str] = []
        self._frozen_keys: tuple[tuple[SeriesKey | None, ...], tuple[str, ...]] | None = None
        for name, dtype in _COLUMNS.items():
            setattr(self, name, np.zeros(_FIRST_CAPACITY, dtype))

    def __len__(self) -> int:
        """Series in use."""
        return len(self._rows)

    def series(self, key: SeriesKey, *, now: float) -> int:
        """The id of the series of ``key``, opened if needed. Counts as activity for ``idle_after``."""
        may_fold = self.labels.has_peer and key.peer != OTHER
        row = self._find_or_open(key, self._with_peer if may_fold else self._named)
        if row is None:
            self.folded += 1
            if may_fold:
                row = self._find_or_open(key._replace(peer=OTHER), self._named)
            if row is None:
                row = self._find_or_open(last_resort(key.kind), self._max_series)
            assert row is not None, "there are only len(KINDS) last series"
        self.active[row] = now
        return row

    def key(self, row: int) -> SeriesKey:
        """The key of a series in use, without the parts that its labels leave out."""
        key = self._keys[row]
        assert key is not None, "a row in use has a key"
        return key

    def credit(
        self,
        ids: Ids,
        transmit_bytes: U64,
        receive_bytes: U64,
        transmit_packets: U64,
        receive_packets: U64,
        *,
        now: float,
    ) -> None:
        """Add traffic; ``ids`` may repeat. A row of zeros is no activity. ValueError for an expired id."""
        self._check(ids)
        # add.at: in place, unbuffered and in uint64 throughout; bincount would go through float64 and round.
        np.add.at(self.transmit_bytes, ids, transmit_bytes)
        np.add.at(self.receive_bytes, ids, receive_bytes)
        np.add.at(self.transmit_packets, ids, transmit_packets)
        np.add.at(self.receive_packets, ids, receive_packets)
        moved = (transmit_bytes | receive_bytes | transmit_packets | receive_packets) != 0
        self.active[ids[moved]] = now

    def count(self, key: SeriesKey, totals: tuple[int, int, int, int], *, now: float) -> None:
        """Add traffic, in the order of :meth:`credit`, to the series of ``key``."""
        row = np.array([self.series(key, now=now)], np.int32)
        self.credit(row, *np.array([totals], np.uint64).T, now=now)

    def opened(self, ids: Ids, new: npt.NDArray[np.bool_] | None = None) -> None:
        """Count connections, which are open. ``new``: those not counted in their series before; None: all."""
        self._check(ids)
        np.add.at(self.connections, ids if new is None else ids[new], np.uint64(1))
        np.add.at(self.open_connections, ids, np.int64(1))

    def closed(self, ids: Ids) -> None:
        """Count open connections as closed."""
        self._check(ids)
        np.subtract.at(self.open_connections, ids, np.int64(1))

    def retransmitted(self, ids: Ids, counts: U64) -> None:
        """Add retransmitted TCP segments."""
        self._check(ids)
        np.add.at(self.retransmits, ids, counts)

    def expire(self, *, now: float) -> int:
        """Remove idle series and return how many. Call it regularly: at each call, series with open connections are
        marked active, so their idle time starts at the last call with one."""
        used = len(self._keys)
        in_use = self.kinds[:used] != 0
        active = self.active[:used]
        active[in_use & (self.open_connections[:used] > 0)] = now
        rows = np.flatnonzero(in_use & (now - active >= self.idle_after))
        if not len(rows):
            return 0
        self.expired = ByteCount(
            self.expired.transmit + exact_sum(self.transmit_bytes[rows]),
            self.expired.receive + exact_sum(self.receive_bytes[rows]),
        )
        for row in rows.tolist():
            self._close(row)
        for name in _COLUMNS:
            getattr(self, name)[rows] = 0
        self.generation += 1
        self._frozen_keys = None
        return len(rows)

    def totals(self) -> Totals:
        """Exact bytes credited so far, by kind, and expired ones."""
        return self.freeze().totals()

    @property
    def used(self) -> int:
        """Number of rows ever used: greater than every id."""
        return len(self._keys)

    def freeze(self, flows: OpenFlows | None = None) -> SeriesSnapshot:
        """An immutable copy. Keys are copied only if a series was opened or expired since the last copy.

        ``flows`` adds round-trip times and subtracts closing connections from the open ones. Closing connections keep
        their series, because final counters may follow, but they are not shown as open.
        """
        used = self.used
        if self._frozen_keys is None:
            self._frozen_keys = (tuple(self._keys), tuple(self._texts))
        columns = {name: getattr(self, name)[:used].copy() for name in _FROZEN}
        columns["round_trip"] = np.full(used, np.nan) if flows is None else flows.round_trip
        if flows is not None:
            columns["open_connections"] -= flows.closing_by_series
        for column in columns.values():
            column.flags.writeable = False
        keys, texts = self._frozen_keys
        return SeriesSnapshot(
            keys=keys,
            texts=texts,
            count=len(self),
            limit=self._max_series,
            folded=self.folded,
            expired=self.expired,
            **columns,
        )

    def _find_or_open(self, key: SeriesKey, limit: int) -> int | None:
        """The row of ``key``, a new one if fewer than ``limit`` are in use, else None."""
        text = self.labels.text(key)
        row = self._rows.get((key.kind, text))
        if row is not None or len(self._rows) >= limit:
            return row
        return self._open(self.labels.visible(key), text)

    def _open(self, key: SeriesKey, text: str) -> int:
        if self._free:
            row = self._free.pop()
            self._keys[row], self._texts[row] = key, text
        else:
            row = len(self._keys)
            self._keys.append(key)
            self._texts.append(text)
            if row == len(self.kinds):
                self._grow()
        self.kinds[row] = _CODE[key.kind]
        self._rows[key.kind, text] = row
        self._frozen_keys = None
        return row

    def _close(self, row: int) -> None:
        key = self.key(row)
        del self._rows[key.kind, self._texts[row]]
        self._keys[row], self._texts[row] = None, ""
        self._free.append(row)

    def _grow(self) -> None:
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))

    def _check(self, ids: Ids) -> None:
        """ValueError for an id of an expired series: a defect of the caller that would lose bytes silently."""
        if len(ids) and not self.kinds[ids].all():
            raise ValueError("a series id is not in use: it has expired")
