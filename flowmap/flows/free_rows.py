"""Which rows of the flow table are in use: freed ones are used again before new ones."""

from __future__ import annotations

import numpy as np

from flowmap.flows.index.hash_index import Rows


class FreeRows:
    """Gives out rows from 0 on."""

    def __init__(self) -> None:
        self.top = 0
        """Number of rows that were ever used."""
        self._free: list[int] = []

    def __len__(self) -> int:
        """Number of freed rows below :attr:`top`."""
        return len(self._free)

    def take(self, count: int) -> Rows:
        """So many rows, which are in use from now on."""
        reused = self._free[len(self._free) - min(count, len(self._free)) :]
        del self._free[len(self._free) - len(reused) :]
        fresh = count - len(reused)
        rows = np.array(reused + list(range(self.top, self.top + fresh)), np.int32)
        self.top += fresh
        return rows

    def give(self, rows: Rows) -> None:
        """These rows are not in use any more."""
        self._free.extend(rows.tolist())
