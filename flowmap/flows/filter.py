"""Filters which flows are counted: ``collect.include`` and ``collect.exclude``.

A pattern is one of

    10.0.0.0/8            one of the addresses, before or after NAT, is in the network
    tcp/9092              the protocol and the port of the service endpoint
    10.1.0.0/16:3306      the service endpoint is in the network and has this port
    [2001:db8::]/32:443   the same for IPv6

A network matches addresses of its own family only: ``::/0`` is all of IPv6 and no IPv4. A flow between IPv4 hosts is
IPv4, even if a dual-stack socket shows its addresses as ``::ffff:a.b.c.d``, and so is a network that is written in this
form. Bits after the prefix are ignored. A flow is counted if it matches
``include``, or ``include`` is empty, and does not match ``exclude``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.records.batch import Flag, FlowBatch
from flowmap.model.address import Address, parse_network, protocol_number

Mask = npt.NDArray[np.bool_]
U64 = npt.NDArray[np.uint64]

_ALL = (1 << 64) - 1
_BRACKETED = re.compile(r"\[([^\]]+)\]((?:/\d+)?)$")


def are_v4(high: U64, low: U64) -> Mask:
    """Whether each address is IPv4."""
    return np.asarray((high == 0) & (low >> np.uint64(32) == 0xFFFF))


class Network(NamedTuple):
    """An address prefix as two masked 64-bit halves, and its family (4 or 6)."""

    version: int
    high: int
    low: int
    high_mask: int
    low_mask: int

    @classmethod
    def parse(cls, text: str) -> Network:
        """Parse ``a.b.c.d/n``, ``x::/n``, ``[x::]/n`` or a single address. ValueError for anything else."""
        bracketed = _BRACKETED.match(text)
        if bracketed:
            text = "".join(bracketed.groups())
        network = parse_network(text)
        bits = network.prefixlen + (96 if network.version == 4 else 0)
        mask = ((1 << bits) - 1) << (128 - bits)
        address = Address.parse(str(network.network_address))
        return cls(network.version, address.high, address.low, mask >> 64, mask & _ALL)

    def contains(self, high: U64, low: U64) -> Mask:
        """Whether each address is of the network's family and in it."""
        inside: Mask = (high & np.uint64(self.high_mask)) == np.uint64(self.high)
        inside &= (low & np.uint64(self.low_mask)) == np.uint64(self.low)
        if self.version == 6:  # both families share one number space, with IPv4 in ::ffff:0:0/96
            inside &= ~are_v4(high, low)
        return inside


LOOPBACK = (Network.parse("127.0.0.0/8"), Network.parse("::1"))
"""Networks of loopback addresses."""


class Pattern(NamedTuple):
    """One pattern. A part that is None matches everything."""

    network: Network | None
    protocol: int | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parse a pattern (see the module's docstring). ValueError names the mistake."""
        protocol, slash, port = text.partition("/")
        if slash and protocol.isalpha():
            return cls(None, protocol_number(protocol), _port(port, text))
        head, colon, tail = text.rpartition(":")
        with_port = colon and tail.isdecimal() and ("]" in head or ":" not in head)
        try:
            network = Network.parse(head if with_port else text)
        except ValueError as error:
            raise ValueError(f"{text!r} is neither a network, network:port nor protocol/port") from error
        return cls(network, None, _port(tail, text) if with_port else None)

    def matches(self, batch: FlowBatch) -> Mask:
        """Whether the pattern matches each record."""
        mask = np.ones(len(batch), np.bool_)
        if self.protocol is not None:
            mask &= batch.protocol == self.protocol
        if self.port is not None:
            mask &= (batch.server_port == self.port) | (batch.translated_server_port == self.port)
        if self.network is not None:
            service = self.network.contains(batch.server_high, batch.server_low)
            service |= self.network.contains(batch.translated_server_high, batch.translated_server_low)
            if self.port is None:
                service |= self.network.contains(batch.client_high, batch.client_low)
                service |= self.network.contains(batch.translated_client_high, batch.translated_client_low)
            mask &= service
        return mask


def _port(text: str, pattern: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{pattern!r}: a port is a number from 1 to 65535")
    return int(text)


_LEFT_OUT = np.uint16(Flag.LEFT_OUT)


class Filter:
    """Include and exclude patterns."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        """ValueError for an invalid pattern."""
        self._include = [Pattern.parse(text) for text in include]
        self._exclude = [Pattern.parse(text) for text in exclude]

    def ignores(self, batch: FlowBatch) -> Mask:
        """Whether the flow of each record is ignored."""
        ignored = np.full(len(batch), bool(self._include))
        for pattern in self._include:
            ignored &= ~pattern.matches(batch)
        for pattern in self._exclude:
            ignored |= pattern.matches(batch)
        ignored |= (batch.flags & _LEFT_OUT) != 0
        return ignored
