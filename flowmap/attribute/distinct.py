"""Distinct rows of a few columns: most ends have a handful of flows, and for these numpy costs too much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FEW = 40
"""Rows up to which plain Python is faster than numpy, which takes 35 µs for any number."""
_ROOM = 1 << 62
"""Numbers that a row may become."""


def distinct_rows(columns: Sequence[npt.NDArray[np.generic]]) -> tuple[list[tuple[int, ...]], npt.NDArray[np.intp]]:
    """The distinct rows in ascending order, and for each row its position among them. Columns hold integers below 2**31
    or flags and are of one length."""
    if len(columns[0]) > FEW:
        _, first, position = np.unique(_numbers(columns), return_index=True, return_inverse=True)
        return list(zip(*(column[first].astype(int).tolist() for column in columns), strict=True)), position
    rows = [tuple(map(int, row)) for row in zip(*(column.tolist() for column in columns), strict=True)]
    found = sorted(set(rows))
    places = {row: place for place, row in enumerate(found)}
    return found, np.array([places[row] for row in rows], np.intp)


def _numbers(columns: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.int64]:
    """A number for each row, in the order of the rows and the same for the same: sorting whole rows takes 20 times as
    long."""
    numbers, below = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        digits = column.astype(np.int64)
        digits -= digits.min()
        base = int(digits.max()) + 1
        if below * base > _ROOM:
            numbers = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
            below = len(numbers)
        numbers = numbers * base + digits
        below *= base
    return numbers
