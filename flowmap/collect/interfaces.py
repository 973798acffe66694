"""The interfaces of a network namespace by name and number, and whether they are up (netdevice(7))."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_IFF_UP = 1
_IFREQ = struct.Struct("16sH22x")


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface."""

    name: str
    number: int
    up: bool


def read_interfaces(names: Iterable[str] = ()) -> dict[str, Interface]:
    """Those of ``names`` that are there, all if no name is given; of the calling thread's network namespace."""
    wanted = frozenset(names)
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for number, name in socket.if_nameindex():
            if name in wanted or not wanted:
                with contextlib.suppress(OSError):  # gone since
                    reply = fcntl.ioctl(asking, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
                    found[name] = Interface(name, number, bool(_IFREQ.unpack(reply)[1] & _IFF_UP))
    return found
