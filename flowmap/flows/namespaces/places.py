"""Which network namespace of this host has which address."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import U64, Mask
from flowmap.flows.filter import LOOPBACK, Network
from flowmap.model.address import Address

NOWHERE = -1
"""No namespace that is read has the address."""
SEVERAL = -2
"""More than one has it: an isolated network, or an address that is given out twice."""

Owners = npt.NDArray[np.int64]

_EVERYWHERE = (*LOOPBACK, *map(Network.parse, ("169.254.0.0/16", "fe80::/10", "0.0.0.0", "::")))
"""Loopback and link-local addresses: each namespace can have them, and they say nothing about another one."""
_ODD = np.uint64(0x9E37_79B9_7F4A_7C15)


class Places:
    """The addresses of the namespaces that are read, the daemon's own included."""

    def __init__(self) -> None:
        self._addresses: dict[int, frozenset[Address]] = {}
        self._hashes, self._high, self._low = (np.zeros(0, np.uint64) for _ in range(3))
        self._owners: Owners = np.zeros(0, np.int64)
        self.shared: frozenset[Address] = frozenset()
        """The addresses that several namespaces have."""

    def __len__(self) -> int:
        return len(self._addresses)

    def set(self, namespace: int, addresses: Iterable[Address]) -> None:
        """Set the addresses of a namespace."""
        known = frozenset(addresses)
        if self._addresses.get(namespace) != known:
            self._addresses[namespace] = known
            self._arrange()

    def forget(self, namespace: int) -> None:
        """The namespace is not read any more."""
        if self._addresses.pop(namespace, None) is not None:
            self._arrange()

    def owner(self, high: U64, low: U64) -> Owners:
        """The number of the namespace that alone has each address; :data:`NOWHERE` or :data:`SEVERAL`."""
        if not len(self._hashes):
            return np.full(len(high), NOWHERE)
        at = np.minimum(np.searchsorted(self._hashes, _hash(high, low)), len(self._hashes) - 1)
        same: Mask = (self._high[at] == high) & (self._low[at] == low)
        return np.where(same, self._owners[at], NOWHERE)

    def _arrange(self) -> None:
        owners: dict[Address, int] = {}
        for namespace, addresses in self._addresses.items():
            for address in addresses:
                owners[address] = SEVERAL if address in owners else namespace
        high, low = (np.array([address[half] for address in owners], np.uint64) for half in (0, 1))
        kept = ~_is_everywhere(high, low)
        order = np.argsort(_hash(high, low)[kept], kind="stable")
        self._high, self._low = high[kept][order], low[kept][order]
        self._hashes = _hash(self._high, self._low)
        self._owners = np.array(list(owners.values()), np.int64)[kept][order]
        several = self._owners == SEVERAL
        pairs = zip(self._high[several].tolist(), self._low[several].tolist(), strict=True)
        self.shared = frozenset(Address(*halves) for halves in pairs)


def _hash(high: U64, low: U64) -> U64:
    return (high * _ODD + low) * _ODD


def _is_everywhere(high: U64, low: U64) -> Mask:
    found = np.zeros(len(high), np.bool_)
    for network in _EVERYWHERE:
        found |= network.contains(high, low)
    return found
