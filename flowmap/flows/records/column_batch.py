"""Records in columns: the mechanism behind every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.generic]


class ColumnBatch:
    """``n`` records in order; one numpy array of length ``n`` per name in ``COLUMNS``, as attributes.

    A subclass gives ``COLUMNS`` (name and type of every column) and has a slot per name.
    """

    __slots__ = ("_n",)

    COLUMNS: ClassVar[Mapping[str, np.dtype[np.generic]]]

    def __init__(self, n: int) -> None:
        """``n`` records with every column zero."""
        self._n = n
        for name, dtype in self.COLUMNS.items():
            setattr(self, name, np.zeros(n, dtype))

    def __len__(self) -> int:
        return self._n

    def columns(self) -> dict[str, Column]:
        """The arrays by name (not copies)."""
        return {name: getattr(self, name) for name in self.COLUMNS}

    def rows(self) -> list[tuple[int, ...]]:
        """Every record as a tuple in column order: for comparison in tests, not for the hot path."""
        return list(zip(*(getattr(self, name).tolist() for name in self.COLUMNS), strict=True))

    def take(self, index: npt.NDArray[np.generic] | slice) -> Self:
        """The records at ``index`` (integers, a mask or a slice), in that order."""
        taken = self._blank()
        column = None
        for name in self.COLUMNS:
            column = getattr(self, name)[index]
            setattr(taken, name, column)
        taken._n = 0 if column is None else len(column)
        return taken

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """One batch of all records, in order; without batches an empty one."""
        if not batches:
            return cls(0)
        joined = cls._blank()
        for name in cls.COLUMNS:
            setattr(joined, name, np.concatenate([getattr(batch, name) for batch in batches]))
        joined._n = sum(map(len, batches))
        return joined

    @classmethod
    def _blank(cls) -> Self:
        """An instance without columns."""
        return cls.__new__(cls)
