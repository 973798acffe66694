"""Messages of inet_diag with distinct values in their fields."""

from __future__ import annotations

import struct

from flowmap.wire.netlink.inet_diag import (
    AF_INET,
    SOCK_DIAG_BY_FAMILY,
    DiagAttribute,
)
from flowmap.wire.netlink.messages import encode_attribute, encode_message

CGROUP = encode_attribute(DiagAttribute.CGROUP_ID, bytes(range(1, 9)))


def message(
    family: int = AF_INET, *, info: bytes | None = bytes(280), extra: bytes = b"", state: int = 1, head: bytes = b""
) -> bytes:
    """The payload of one message with distinct values in its fields."""
    fixed = head or struct.pack(
        "=BBBB2s2s16s16sIQIIIII",
        family,
        state,
        1,
        9,
        (443).to_bytes(2, "big"),
        (50000).to_bytes(2, "big"),
        bytes(range(1, 17)),
        bytes(range(101, 117)),
        7,
        0x1122334455667788,
        11,
        12,
        13,
        14,
        15,
    )
    return fixed + extra + (encode_attribute(DiagAttribute.INFO, info) if info is not None else b"")


def framed(*payloads: bytes, flags: int = 0) -> bytes:
    return b"".join(encode_message(SOCK_DIAG_BY_FAMILY, flags, payload) for payload in payloads)
