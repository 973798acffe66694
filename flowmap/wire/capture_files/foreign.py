"""Recognises capture and compression formats that flowmap does not read, and names the tool that converts them."""

from __future__ import annotations

import struct

FIRST_BYTES = 64
"""Bytes at the start of a file that identify its format."""

_CONVERT = "convert it with `editcap -F pcapng IN OUT`"

_CAPTURES = {
    b"\xa1\xb2\xcd\x34": "modified pcap (Kuznetzov's)",
    b"\x34\xcd\xb2\xa1": "modified pcap (Kuznetzov's)",
    b"\xa1\xb2\x3c\x34": "IXIA's variant of pcap",
    b"\x1c\x00\x01\xac": "IXIA's variant of pcap",
    b"\xac\x01\x00\x1c": "IXIA's variant of pcap",
    b"\x1c\x00\x01\xab": "IXIA's variant of pcap",
    b"\xab\x01\x00\x1c": "IXIA's variant of pcap",
    b"snoop\0\0\0": "snoop",
    b"btsnoop\0": "btsnoop (Bluetooth)",
    b"RTSS": "Network Monitor 1",
    b"GMBU": "Network Monitor 2",
    b"TRSNIFF data    \x1a": "Sniffer (DOS)",
    b"XCP\0": "Sniffer (Windows)",
    b"ObserverPktBuffe": "Observer",
    b"\x05VNF": "Visual Networks",
    b"iptrace 1.0": "iptrace",
    b"iptrace 2.0": "iptrace",
}
_PACKED = {
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"\xfd7zXZ\0": ("xz", "xz -d"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -d"),
    b"\x02\x21\x4c\x18": ("lz4", "lz4 -d"),
    b"BZh": ("bzip2", "bzip2 -d"),
    b"\x1f\x9d": ("compress", "uncompress"),
    b"LZIP": ("lzip", "lzip -d"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x"),
}
_ERF = struct.Struct("<QBB")  # time, type, flags; then in network byte order:
_ERF_REST = struct.Struct("!HHH")  # length of the record, lost, length on the wire
_ERF_TYPES = range(1, 28)
_ERF_SECONDS = range(600_000_000, 4_000_000_000)  # since 1970
_ERF_HEADER = 16


def describe_foreign(head: bytes) -> str:
    """Format and remedy for a file that starts with ``head`` (``snoop: convert it with …``); empty if unknown."""
    for magic, name in _CAPTURES.items():
        if head.startswith(magic):
            return f"{name}: {_CONVERT}"
    for magic, (name, command) in _PACKED.items():
        if head.startswith(magic):
            return f"compressed with {name}: unpack it first (`{command} FILE`); gzip is read as it is"
    return f"probably ERF (Endace): {_CONVERT}" if _is_erf(head) else ""


def _is_erf(head: bytes) -> bool:
    """Whether the first record is plausible as ERF, which has no magic number."""
    if len(head) < _ERF_HEADER:
        return False
    time, kind, _ = _ERF.unpack_from(head)
    size, _, wire = _ERF_REST.unpack_from(head, _ERF.size)
    plausible = kind & 0x7F in _ERF_TYPES and time >> 32 in _ERF_SECONDS
    return plausible and _ERF_HEADER < size <= _ERF_HEADER + 64 + wire
