"""Finds the flows of many connections at a time, each known by its client endpoint and perhaps its server endpoint.

A scan of all flows for each connection would take a second for a hundred of them. Here each flow is hashed once and
looked up in the sorted hashes of what is wanted; what the hash finds is compared exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Positions
from flowmap.model.address import Address
from flowmap.model.views import EndpointFilter, Lookup

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.intp]
"""Positions in the lookups."""

_ODD = np.uint64(0x9E37_79B9_7F4A_7C15)
_ANY = EndpointFilter(Address(0, 0), None)


class EndpointColumns(NamedTuple):
    """One endpoint of many flows."""

    high: U64
    low: U64
    port: U64

    def take(self, positions: Positions) -> EndpointColumns:
        """The endpoints at some positions."""
        return EndpointColumns(self.high[positions], self.low[positions], self.port[positions])


class Matches(NamedTuple):
    """Pairs of a flow and a lookup that fit."""

    flows: Positions
    lookups: Numbers

    def by_lookup(self, count: int) -> list[Positions]:
        """The flows of each of ``count`` lookups, each flow once and in their order."""
        if not len(self.flows):
            return [self.flows] * count
        pairs = np.unique(np.stack((self.lookups, self.flows), axis=1), axis=0)
        return np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, count)))


class LookupIndex:
    """Lookups, prepared to be found in columns of flows."""

    def __init__(self, lookups: Sequence[Lookup]) -> None:
        self._clients = _Wanted([lookup.client for lookup in lookups])
        self._servers = _Wanted([lookup.server or _ANY for lookup in lookups])
        self._with_server = np.array([lookup.server is not None for lookup in lookups], np.bool_)
        self.netns = [lookup.netns for lookup in lookups]
        """The network namespace that each lookup wants. It is not compared here."""
        self._protocols = np.array([lookup.protocol for lookup in lookups], np.uint64)

    def find(self, client: EndpointColumns, server: EndpointColumns, protocol: U64, guessed: Mask) -> Matches:
        """The flows that fit, in either direction if the lookup has a server endpoint.

        ``guessed``: flows whose orientation is a guess. They fit a client endpoint in either direction.
        """
        flows, numbers = self._clients.find(client)
        fits = self._fits(server.take(flows), numbers)
        turned_flows, turned = self._clients.find(server)
        turned_fits = self._fits(client.take(turned_flows), turned)
        turned_fits &= self._with_server[turned] | guessed[turned_flows]
        flows = np.concatenate((flows[fits], turned_flows[turned_fits]))
        numbers = np.concatenate((numbers[fits], turned[turned_fits]))
        right = protocol[flows] == self._protocols[numbers]
        return Matches(flows[right], numbers[right])

    def _fits(self, others: EndpointColumns, numbers: Numbers) -> Mask:
        return ~self._with_server[numbers] | self._servers.equal(others, numbers)


class _Wanted:
    """One endpoint of every lookup, sorted by hash."""

    def __init__(self, wanted: Sequence[EndpointFilter]) -> None:
        self._any_port = np.array([one.port is None for one in wanted], np.bool_)
        self._columns = EndpointColumns(
            np.array([one.address.high for one in wanted], np.uint64),
            np.array([one.address.low for one in wanted], np.uint64),
            np.array([one.port or 0 for one in wanted], np.uint64),
        )
        hashes = _hashes(self._columns)
        self._groups = []
        for any_port in (False, True):
            numbers = np.flatnonzero(self._any_port == any_port)
            numbers = numbers[np.argsort(hashes[numbers], kind="stable")]
            self._groups.append((any_port, numbers, hashes[numbers]))

    def find(self, ends: EndpointColumns) -> Matches:
        """The positions in ``ends`` that have an endpoint of a lookup, each with the lookups that want it."""
        flows, numbers = [], []
        for any_port, wanted, hashes in self._groups:
            if len(wanted):
                made = _hashes(ends._replace(port=np.zeros_like(ends.port)) if any_port else ends)
                first = np.searchsorted(hashes, made)
                hit = np.flatnonzero(hashes[np.minimum(first, len(hashes) - 1)] == made)
                count = np.searchsorted(hashes, made[hit], side="right") - first[hit]
                offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
                flows.append(np.repeat(hit, count))
                numbers.append(wanted[np.repeat(first[hit], count) + offset])
        found = Matches(np.concatenate(flows), np.concatenate(numbers))
        same = self.equal(ends.take(found.flows), found.lookups)
        return Matches(found.flows[same], found.lookups[same])

    def equal(self, ends: EndpointColumns, numbers: Numbers) -> Mask:
        """Whether each endpoint is the one that the lookup beside it wants."""
        wanted = self._columns.take(numbers)
        same: Mask = (ends.high == wanted.high) & (ends.low == wanted.low)
        same &= self._any_port[numbers] | (ends.port == wanted.port)
        return same


def _hashes(ends: EndpointColumns) -> U64:
    return (ends.high * _ODD + ends.low) * _ODD + ends.port
