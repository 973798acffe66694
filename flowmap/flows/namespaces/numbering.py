"""The network namespaces of flows: numbers in the rows, and what each number stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from flowmap.flows.columns import FlowColumns
from flowmap.flows.index.hash_index import Rows
from flowmap.model.namespace import HOST, OWN, NetworkNamespace

LIMIT = 16_384
"""Namespaces that are kept. Above it, those without a flow are dropped first, then the oldest."""


class Namespaces:
    """Network namespaces by number."""

    def __init__(self) -> None:
        self._known: dict[int, NetworkNamespace] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, number: int) -> NetworkNamespace | None:
        """The namespace; None for the daemon's own. One that is not known has no name, and inode 0."""
        return None if number == OWN else self._known.get(number, NetworkNamespace(0))

    def learn(self, named: Iterable[tuple[int, NetworkNamespace]]) -> None:
        """Set what numbers stand for."""
        self._known.update(named)

    def numbers(self, called: str) -> list[int]:
        """The numbers of namespaces with this name or inode; ``host`` is the daemon's own."""
        found = [number for number, namespace in self._known.items() if namespace.is_called(called)]
        return [OWN, *found] if called == HOST else found

    def tidy(self, columns: FlowColumns, live_rows: Callable[[], Rows]) -> None:
        """Drop namespaces above the limit."""
        if len(self._known) <= LIMIT:
            return
        used = set(np.unique(columns.namespace[live_rows()]).tolist())
        # A namespace is numbered when it appears, so one that was numbered lately may have its flows still to come.
        unused = [number for number in self._known if number not in used]
        for number in (*unused, *(number for number in self._known if number in used))[: len(self._known) - LIMIT]:
            del self._known[number]
