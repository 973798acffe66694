"""The smallest few of many keys without sorting all: the schedule chooses a handful of a million endpoints."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


def first_few(limit: int, key: Keys, *ties: Keys) -> Index:
    """Positions of the ``limit`` smallest of ``key``, in ascending order.

    Equal keys are ordered by each of ``ties`` in turn, then by position. No value may be NaN.
    """
    if len(key) <= limit:
        return np.lexsort((*reversed(ties), key))
    if not limit:
        return np.zeros(0, np.intp)
    edge = np.partition(key, limit - 1)[limit - 1]
    below, at = np.flatnonzero(key < edge), np.flatnonzero(key == edge)
    wanted = limit - len(below)
    at = at[first_few(wanted, ties[0][at], *(tie[at] for tie in ties[1:]))] if ties else at[:wanted]
    chosen = np.sort(np.concatenate((below, at)))
    order: Index = np.lexsort((*(tie[chosen] for tie in reversed(ties)), key[chosen]))
    return chosen[order]
