"""The recorded ctnetlink messages of tests/data/conntrack."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[1] / "data" / "conntrack"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.nlmsg"))

little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="recorded on a little-endian host")


def datagrams(name: str) -> list[bytes]:
    data, at, found = (DIRECTORY / f"{name}.nlmsg").read_bytes(), 0, []
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def joined(parts: list[bytes]) -> tuple[bytes, list[int]]:
    """Datagrams as a socket's ``receive`` returns them: one buffer and where each begins."""
    data, starts = b"", []
    for part in parts:
        starts.append(len(data))
        data += part + bytes(-len(part) % 4)
    return data, starts
