"""Bloom filters that tell which blocks may hold a connection: one of the addresses and tuples of each block's flows.

A filter has false positives (about one in two hundred) and no false negatives. Both directions of a connection have the
same key, since a user may name it from either side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.ports import client_ports, nat_ports, protocols, server_ports
from flowmap.history.closed_flows import Column, Fact
from flowmap.model.address import Address

U64 = npt.NDArray[np.uint64]

_BITS_A_KEY = 12
_PROBES = 4
_FIRST, _SECOND, _THIRD = (np.uint64(n) for n in (0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB))
NO_PORT = 0xFFFF_FFFF
"""Stands for both ports in the key of a pair of addresses."""


def keys_of(columns: dict[str, Column]) -> U64:
    """Keys of flows, without repetition: of their address pairs and of their tuples, before and after NAT."""
    ports = columns["ports"]
    protocol = protocols(ports)
    seen = _keys(
        (columns["client_high"], columns["client_low"], client_ports(ports)),
        (columns["server_high"], columns["server_low"], server_ports(ports)),
        protocol,
    )
    behind = np.flatnonzero(columns["flags"] & np.uint8(Fact.TRANSLATED))
    if len(behind):
        some = {name: columns[name][behind] for name in columns if name.startswith("translated_")}
        client, server = nat_ports(some["translated_ports"])
        seen += _keys(
            (some["translated_client_high"], some["translated_client_low"], client),
            (some["translated_server_high"], some["translated_server_low"], server),
            protocol[behind],
        )
    return np.unique(np.concatenate(seen))


def key_of(one: Address, one_port: int | None, other: Address, other_port: int | None, protocol: int) -> int:
    """The key of a connection: of its tuple, or of its address pair if a port is not known."""
    ports = (NO_PORT, NO_PORT) if one_port is None or other_port is None else (one_port, other_port)
    endpoints = [(*address, port) for address, port in zip((one, other), ports, strict=True)]
    first, second = (_endpoint(*(np.array([half], np.uint64) for half in endpoint)) for endpoint in endpoints)
    return int(_mix(first + second + np.uint64(protocol))[0])


def make(keys: U64) -> bytes:
    """The filter of these keys, empty without keys."""
    if not len(keys):
        return b""
    size = max(64, -(-len(keys) * _BITS_A_KEY // 8) * 8)
    bits = np.zeros(size, np.bool_)
    step = keys >> np.uint64(32) | np.uint64(1)
    for probe in range(_PROBES):
        bits[(keys + np.uint64(probe) * step) % np.uint64(size)] = True
    return np.packbits(bits, bitorder="little").tobytes()


def may_hold(made: bytes, key: int) -> bool:
    """Whether ``key`` may be among the keys of the filter."""
    size = len(made) * 8
    if not size:
        return False
    step = key >> 32 | 1
    for probe in range(_PROBES):
        bit = (key + probe * step & 0xFFFF_FFFF_FFFF_FFFF) % size
        if not made[bit >> 3] >> (bit & 7) & 1:
            return False
    return True


def _keys(one: tuple[U64, U64, U64], other: tuple[U64, U64, U64], protocol: U64) -> list[U64]:
    nothing = np.full(len(protocol), NO_PORT, np.uint64)
    pairs = _endpoint(*one[:2], nothing) + _endpoint(*other[:2], nothing)
    return [_mix(pairs + protocol), _mix(_endpoint(*one) + _endpoint(*other) + protocol)]


def _endpoint(high: U64, low: U64, port: U64) -> U64:
    return _mix(_mix(high ^ (port * _FIRST)) ^ low)


def _mix(value: U64) -> U64:
    mixed = value + _FIRST
    mixed = (mixed ^ mixed >> np.uint64(30)) * _SECOND
    mixed = (mixed ^ mixed >> np.uint64(27)) * _THIRD
    mixed ^= mixed >> np.uint64(31)
    return mixed
