"""Ports, zone and protocol of a flow packed into one number, and the two ports after NAT into another.

    packed ports    client port << 48 | server port << 32 | zone << 16 | protocol
    NAT ports       client port << 16 | server port

The flow table and the history file store both forms. Ports are 0 for protocols without ports.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TCP = 6
"""IANA number of TCP."""

U64 = npt.NDArray[np.uint64]
Unsigned = npt.NDArray[np.unsignedinteger]

_16, _32, _48 = (np.uint64(bits) for bits in (16, 32, 48))
_MASK = np.uint64(0xFFFF)


class PortFields(NamedTuple):
    """The fields of one packed number."""

    client: int
    server: int
    zone: int
    protocol: int


def pack(client: Unsigned, server: Unsigned, zone: Unsigned, protocol: Unsigned) -> U64:
    """Packed ports of many flows."""
    packed = client.astype(np.uint64) << _48
    packed |= server.astype(np.uint64) << _32
    packed |= zone.astype(np.uint64) << _16
    packed |= protocol
    return packed


def unpack(packed: int) -> PortFields:
    """The fields of one flow's packed ports."""
    return PortFields(packed >> 48, packed >> 32 & 0xFFFF, packed >> 16 & 0xFFFF, packed & 0xFFFF)


def client_ports(packed: U64) -> U64:
    """Client port of each flow."""
    return packed >> _48


def server_ports(packed: U64) -> U64:
    """Server port of each flow."""
    return packed >> _32 & _MASK


def zones(packed: U64) -> U64:
    """Conntrack zone of each flow."""
    return packed >> _16 & _MASK


def protocols(packed: U64) -> U64:
    """IANA protocol number of each flow."""
    return packed & _MASK


def swapped(packed: U64) -> U64:
    """The same with client and server port exchanged, zone 0."""
    return server_ports(packed) << _48 | client_ports(packed) << _32 | protocols(packed)


def pack_nat(client: Unsigned, server: Unsigned) -> npt.NDArray[np.uint32]:
    """NAT ports of many flows."""
    packed: npt.NDArray[np.uint32] = client.astype(np.uint32) << np.uint32(16) | server
    return packed


def unpack_nat(packed: int) -> tuple[int, int]:
    """Client and server port of one flow after NAT."""
    return packed >> 16, packed & 0xFFFF


def nat_ports(packed: npt.NDArray[np.uint32]) -> tuple[U64, U64]:
    """Client and server port of each flow after NAT."""
    wide = packed.astype(np.uint64)
    return wide >> _16, wide & _MASK
