"""The full reads of each network namespace, for the flow table. Each namespace is read on its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import FlowColumns, Mask
from flowmap.flows.held_counters import HeldCounters, Reading
from flowmap.model.namespace import OWN

Numbers = npt.NDArray[np.uint32]


class FullReads:
    """Numbers the full reads of all namespaces, and knows what those of each have shown."""

    def __init__(self, columns: FlowColumns) -> None:
        self._columns = columns
        self._held: dict[int, HeldCounters] = {}
        self.number = 0
        """Of the last read that began, in any namespace."""
        self._began = {OWN: 0}
        self._starting = {OWN}
        self._refused: set[int] = set()
        self._refused_in_read: set[int] = set()

    def add(self, namespace: int, *, is_new: bool) -> None:
        """Another namespace is read from now on. ``is_new``: it did not exist when the daemon started."""
        self._began[namespace] = self.number
        if not is_new:
            self._starting.add(namespace)

    def forget(self, namespace: int) -> None:
        """The namespace is not read any more."""
        self._began.pop(namespace, None)
        for known in (self._starting, self._refused, self._refused_in_read):
            known.discard(namespace)

    def begin(self, namespace: int) -> None:
        """A full read starts."""
        self.number += 1
        self._began[namespace] = self.number
        self._refused_in_read.discard(namespace)
        for _ in self.take_held(namespace):  # an earlier read that never ended
            pass
        self._held[namespace] = HeldCounters(self._columns)

    def held(self, namespace: int) -> HeldCounters | None:
        """Where counters of the current read of a namespace are held; None between two reads."""
        return self._held.get(namespace)

    def take_held(self, namespace: int) -> list[Reading]:
        """Remove and return what the current read of a namespace has shown, because it ends."""
        held = self._held.pop(namespace, None)
        return [] if held is None else list(held.take())

    def finish(self, namespace: int) -> None:
        """A complete full read has ended."""
        self._starting.discard(namespace)
        if namespace not in self._refused_in_read:
            self._refused.discard(namespace)

    def began(self, namespace: int) -> int:
        """Number of the last read of a namespace."""
        return self._began.get(namespace, self.number)

    def refuse(self, namespaces: Numbers) -> None:
        """A flow in each of these was refused or evicted: the table lacks it until a later complete read."""
        refused = np.unique(namespaces).tolist()
        self._refused.update(refused)
        self._refused_in_read.update(refused)

    def are_before_first(self, namespaces: Numbers) -> Mask:
        """Which namespaces have had no complete read: their flows may be older than the daemon."""
        return _are_in(namespaces, self._starting)

    def lacks_flows(self, namespace: int) -> bool:
        """Whether the table lacks flows of a namespace."""
        return namespace in self._refused

    def lack_flows(self, namespaces: Numbers) -> Mask:
        """In which namespaces the table lacks flows, so that a flow that is new to it may be old."""
        return _are_in(namespaces, self._refused)


def _are_in(namespaces: Numbers, known: set[int]) -> Mask:
    if not known:
        return np.zeros(len(namespaces), np.bool_)
    found: Mask = np.isin(namespaces, np.fromiter(known, np.uint32, len(known)))
    return found
