"""One entry of ``export.peers``: a pattern of addresses, a host name, or a file with targets."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

FILE = "file_sd:"
"""Prefix of an entry with the path of files in the file_sd format of Prometheus."""
_HOST = re.compile(
    r"(?P<host>(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*\.?)(?::(?P<port>\d{1,5}))?"
)


class EntryKind(Enum):
    """What an entry is. The order is that of precedence."""

    PATTERN = 1
    HOST = 2
    FILE = 3


class PeerEntry(NamedTuple):
    """An entry in its parts."""

    kind: EntryKind
    text: str
    """The pattern, the host name, or the path, in which ``*`` and ``?`` may stand in the name of the file."""
    port: int | None = None
    """Of a host name; None: any."""


def read_entry(text: str) -> PeerEntry:
    """The parts of an entry. An entry that is neither a file nor a host name is a pattern, which is not checked
    here."""
    if text.startswith(FILE):
        return PeerEntry(EntryKind.FILE, text.removeprefix(FILE))
    match = _HOST.fullmatch(text)
    if match is None or (match["port"] and not 1 <= int(match["port"]) <= 65535):
        return PeerEntry(EntryKind.PATTERN, text)
    return PeerEntry(EntryKind.HOST, match["host"].lower(), int(match["port"]) if match["port"] else None)
