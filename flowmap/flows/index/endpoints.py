"""Small numbers for endpoints: client addresses, and service endpoints with port and protocol.

Questions about ownership concern endpoints, not flows. So every flow has the numbers of its two endpoints, and facts
about an endpoint are found by its number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Hasher, KeyIndex, Positions, Rows
from flowmap.model.address import Address

U64 = npt.NDArray[np.uint64]

_SERVICE = 1  # lowest bit of ``meta``: a service endpoint; then protocol << 8, port << 16


class EndpointKey(NamedTuple):
    """A client address (``port`` and ``protocol`` 0) or a service endpoint."""

    address: Address
    port: int
    protocol: int
    service: bool


class EndpointTable:
    """Numbers of endpoints. A number stays the same until :meth:`sweep` frees it."""

    def __init__(self, capacity: int, hasher: Hasher) -> None:
        self.capacity = capacity
        self._hasher = hasher
        self._index = KeyIndex(capacity)
        self._high = np.zeros(capacity, np.uint64)
        self._low = np.zeros(capacity, np.uint64)
        self._meta = np.zeros(capacity, np.uint64)
        self._used = np.zeros(capacity, np.bool_)
        self._top = 0
        self._free: list[int] = []

    def __len__(self) -> int:
        return self._top - len(self._free)

    @property
    def top(self) -> int:
        """One more than the largest number ever used."""
        return self._top

    @property
    def room(self) -> int:
        """Number of endpoints that still fit."""
        return self.capacity - len(self)

    def key(self, number: int) -> EndpointKey:
        """The endpoint with this number."""
        meta = int(self._meta[number])
        address = Address(int(self._high[number]), int(self._low[number]))
        return EndpointKey(address, meta >> 16, meta >> 8 & 0xFF, bool(meta & _SERVICE))

    def addresses(self, numbers: Rows) -> tuple[U64, U64]:
        """The addresses of endpoints, as two columns."""
        return self._high[numbers], self._low[numbers]

    def are_services(self, numbers: Rows) -> npt.NDArray[np.bool_]:
        """Whether each is a service endpoint."""
        services: npt.NDArray[np.bool_] = (self._meta[numbers] & np.uint64(_SERVICE)) != 0
        return services

    def intern_clients(self, high: U64, low: U64) -> Rows:
        """Numbers of client addresses, new ones if needed. OverflowError if they do not fit."""
        return self._intern(high, low, np.zeros(len(high), np.uint64))

    def intern_services(
        self, high: U64, low: U64, port: npt.NDArray[np.uint16], protocol: npt.NDArray[np.uint8]
    ) -> Rows:
        """Numbers of service endpoints, new ones if needed. OverflowError if they do not fit."""
        meta = port.astype(np.uint64) << np.uint64(16) | protocol.astype(np.uint64) << np.uint64(8)
        return self._intern(high, low, meta | np.uint64(_SERVICE))

    def sweep(self, in_use: npt.NDArray[np.bool_]) -> Rows:
        """Free and return the numbers not marked in ``in_use``, which has ``capacity`` flags."""
        freed = np.flatnonzero(self._used[: self._top] & ~in_use[: self._top]).astype(np.int32)
        self._index.remove(freed)
        self._used[freed] = False
        self._free.extend(freed.tolist())
        return freed

    def _find(self, columns: list[U64], hashes: U64) -> Rows:
        high, low, meta = columns

        def equal(keys: Positions, rows: Rows) -> npt.NDArray[np.bool_]:
            same: npt.NDArray[np.bool_] = self._low[rows] == low[keys]
            same &= self._high[rows] == high[keys]
            same &= self._meta[rows] == meta[keys]
            return same

        return self._index.find(hashes, equal)

    def _intern(self, high: U64, low: U64, meta: U64) -> Rows:
        columns = [high, low, meta]
        hashes = self._hasher(columns)
        numbers = self._find(columns, hashes)
        missing = np.flatnonzero(numbers < 0)
        if len(missing):
            # Two different new endpoints with the same 64-bit hash get one number here; _separate corrects that.
            _, first, inverse = np.unique(hashes[missing], return_index=True, return_inverse=True)
            # Numbers follow the order of arrival, not of hashes: the order of questions must not depend on the seed.
            order = np.argsort(first)
            new, place = missing[first[order]], np.argsort(order)[inverse]
            rows = self._allocate(len(new))
            self._high[rows], self._low[rows], self._meta[rows] = high[new], low[new], meta[new]
            self._used[rows] = True
            self._index.insert(rows, hashes[new])
            numbers[missing] = rows[place]
            self._separate(columns, numbers, missing)
        return numbers

    def _separate(self, columns: list[U64], numbers: Rows, missing: npt.NDArray[np.intp]) -> None:
        rows = numbers[missing]
        same = (self._low[rows] == columns[1][missing]) & (self._high[rows] == columns[0][missing])
        same &= self._meta[rows] == columns[2][missing]
        for position in missing[~same].tolist():
            one = [column[position : position + 1] for column in columns]
            numbers[position] = self._intern(one[0], one[1], one[2])[0]

    def _allocate(self, count: int) -> Rows:
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(reused)
        if self._top + fresh > self.capacity:
            raise OverflowError("too many endpoints for the table: sweep it before interning")
        rows = np.array(reused + list(range(self._top, self._top + fresh)), np.int32)
        self._top += fresh
        return rows
