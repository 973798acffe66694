"""Decodes and encodes inet_diag messages about TCP sockets (linux/inet_diag.h, linux/sock_diag.h, linux/tcp.h).

:func:`decode_socket` decodes one message. :mod:`flowmap.wire.netlink.inet_diag_columns` gives the same results.
"""

from __future__ import annotations

import struct
import sys
from enum import IntEnum
from typing import NamedTuple

from flowmap.errors import DecodeError
from flowmap.model.address import V4_MAPPED, Address, Endpoint
from flowmap.wire.netlink.messages import AttributeReader, MessageFlag, encode_message

SOCK_DIAG_BY_FAMILY = 20
"""Message type of requests, answers and destroy notifications."""

AF_INET, AF_INET6 = 2, 10
FAMILIES = (AF_INET, AF_INET6)
_IPPROTO_TCP = 6


class DestroyGroup(IntEnum):
    """SKNLGRP_*: a message for every destroyed TCP socket, with its last counters (since 4.3)."""

    INET_TCP = 1
    INET6_TCP = 3


class SocketState(IntEnum):
    """net/tcp_states.h."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11


class DiagAttribute(IntEnum):
    """INET_DIAG_*."""

    INFO = 2
    SKV6ONLY = 11  # of sockets in LISTEN and CLOSE
    CGROUP_ID = 21  # since 5.8, without being asked for


TIMER_TIME_WAIT = 3
"""``timer`` of the small socket that remains in TIME_WAIT or FIN_WAIT2; it has no counters."""

NO_COOKIE = 0xFFFF_FFFF_FFFF_FFFF
"""INET_DIAG_NOCOOKIE: matches any socket."""


class Socket(NamedTuple):
    """One inet_diag message. Addresses as in ``model.address``, numbers in host order; omitted fields are 0."""

    family: int
    state: int
    timer: int
    local_port: int
    remote_port: int
    local_high: int
    local_low: int
    remote_high: int
    remote_low: int
    interface: int  # bound to, else 0
    cookie: int
    receive_queue: int  # rcv_nxt - copied_seq: bytes (and a FIN) the application has not read
    send_queue: int  # write_seq - snd_una: bytes (and a FIN) not acknowledged, sent or not
    uid: int
    inode: int
    v6only: int
    cgroup: int  # inode of the cgroup v2 directory in which it was created, or its listener's; 1: the root
    info_size: int  # bytes of struct tcp_info; newer kernels send more
    unacked: int  # segments in flight
    round_trip: int  # smoothed, in µs
    total_retransmits: int
    bytes_acked: int
    bytes_received: int
    segments_out: int
    segments_in: int
    not_sent: int  # write_seq - snd_nxt
    data_segments_in: int
    bytes_sent: int  # payload, including retransmissions
    bytes_retransmitted: int


INFO_FIELDS: tuple[tuple[str, int, int], ...] = (
    ("unacked", 24, 4),
    ("round_trip", 68, 4),
    ("total_retransmits", 100, 4),
    ("bytes_acked", 120, 8),  # 4.1
    ("bytes_received", 128, 8),  # 4.1
    ("segments_out", 136, 4),  # 4.2
    ("segments_in", 140, 4),  # 4.2
    ("not_sent", 144, 4),  # 4.6
    ("data_segments_in", 152, 4),  # 4.6
    ("bytes_sent", 200, 8),  # 4.19
    ("bytes_retransmitted", 208, 8),  # 4.19
)
"""Name, offset in struct tcp_info, and size in bytes, in host order. Comments: the first kernel with the field."""

COUNTED = 136
"""``info_size`` with the byte counters."""
SENT_COUNTED = 216
"""``info_size`` with ``bytes_sent`` and ``bytes_retransmitted``."""

# struct inet_diag_msg: family, state, timer, retransmits, struct inet_diag_sockid, expires, queues, uid, inode
_MESSAGE = struct.Struct("=BBBx2s2s16s16sIQ4xIIII")
MESSAGE_SIZE = _MESSAGE.size
_REQUEST = struct.Struct("=BBBxI2s2s16s16sIQ")  # struct inet_diag_req_v2
_EXTENSION_INFO = 1 << (DiagAttribute.INFO - 1)


def encode_dump(family: int, states: int, *, info: bool = True, sequence: int = 0) -> bytes:
    """A request for TCP sockets of ``family`` in ``states`` (bits ``1 << SocketState``), with tcp_info if ``info``."""
    extensions = _EXTENSION_INFO if info else 0
    body = _REQUEST.pack(family, _IPPROTO_TCP, extensions, states, b"", b"", b"", b"", 0, NO_COOKIE)
    return encode_message(SOCK_DIAG_BY_FAMILY, MessageFlag.REQUEST | MessageFlag.DUMP, body, sequence=sequence)


def encode_lookup(local: Endpoint, remote: Endpoint, *, interface: int = 0, sequence: int = 0) -> bytes:
    """A request for the socket with these endpoints. Without a match the kernel may return a listener (inet_lookup)."""
    body = _REQUEST.pack(
        AF_INET6,  # the kernel looks up IPv4-mapped endpoints as IPv4 (inet_diag_find_one_icsk)
        _IPPROTO_TCP,
        _EXTENSION_INFO,
        0xFFFF_FFFF,
        local.port.to_bytes(2, "big"),
        remote.port.to_bytes(2, "big"),
        _pack(local.address),
        _pack(remote.address),
        interface,
        NO_COOKIE,
    )
    return encode_message(SOCK_DIAG_BY_FAMILY, MessageFlag.REQUEST, body, sequence=sequence)


def decode_socket(payload: bytes | memoryview) -> Socket:
    """The socket in a message without its netlink header; DecodeError if the message or an attribute is cut."""
    if len(payload) < MESSAGE_SIZE:
        raise DecodeError(f"inet_diag message: {len(payload)} bytes, expected at least {MESSAGE_SIZE}")
    family, state, timer, local_port, remote_port, local, remote, *rest = _MESSAGE.unpack_from(payload)
    if family not in (AF_INET, AF_INET6):
        raise DecodeError(f"inet_diag message: family {family} is neither IPv4 nor IPv6")
    v6only, cgroup, info = _attributes(memoryview(payload)[MESSAGE_SIZE:])
    fields = [family, state, timer, int.from_bytes(local_port, "big"), int.from_bytes(remote_port, "big")]
    fields += [*_address(family, local), *_address(family, remote), *rest, v6only, cgroup, len(info), *_info(info)]
    return Socket._make(fields)


def _attributes(data: memoryview) -> tuple[int, int, memoryview]:
    v6only, cgroup, info = 0, 0, memoryview(b"")
    reader = AttributeReader(data, "inet_diag message")
    while reader.next():
        if reader.type == DiagAttribute.INFO:
            info = reader.bytes()
        elif reader.type == DiagAttribute.SKV6ONLY:
            v6only = reader.host(1)
        elif reader.type == DiagAttribute.CGROUP_ID:
            cgroup = reader.host(8)
    reader.check()
    return v6only, cgroup, info


def _info(info: memoryview) -> list[int]:
    """The values of INFO_FIELDS."""
    return [
        int.from_bytes(info[at : at + size], sys.byteorder) if at + size <= len(info) else 0
        for _, at, size in INFO_FIELDS
    ]


def _address(family: int, raw: bytes) -> Address:
    if family == AF_INET:
        return Address(0, V4_MAPPED | int.from_bytes(raw[:4], "big"))
    return Address(int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big"))


def _pack(address: Address) -> bytes:
    return address.high.to_bytes(8, "big") + address.low.to_bytes(8, "big")
