"""Recognises other formats by their first bytes, and only those."""

from __future__ import annotations

import struct

import pytest

from flowmap.wire.capture_files.foreign import FIRST_BYTES, describe_foreign
from tests.support.capture_files import SECOND, Row, interface, pcap, section


def erf(*, seconds: int = 1_700_000_000, kind: int = 2, size: int = 80, wire: int = 60) -> bytes:
    return struct.pack("<QBB", seconds << 32, kind, 4) + struct.pack("!HHH", size, 0, wire) + bytes(64)


@pytest.mark.parametrize(
    ("head", "described"),
    [
        (b"iptrace 2.0", "iptrace: convert it with `editcap -F pcapng IN OUT`"),
        (b"TRSNIFF data    \x1a", "Sniffer (DOS): convert it with `editcap -F pcapng IN OUT`"),
        (b"PK\x03\x04", "compressed with zip: unpack it first (`unzip FILE`); gzip is read as it is"),
        (erf(), "probably ERF (Endace): convert it with `editcap -F pcapng IN OUT`"),
        (erf(seconds=1000), ""),
        (erf(kind=0), ""),
        (erf(size=16), ""),
        (erf(size=200), ""),
        (erf()[:15], ""),
        (b"", ""),
        (b"iptrac", ""),
        (pcap([Row(b"x", 1, SECOND)]), ""),
        (section("<") + interface("<"), ""),
    ],
)
def test_formats_by_their_first_bytes(head: bytes, described: str) -> None:
    assert describe_foreign(head[:FIRST_BYTES]) == described
