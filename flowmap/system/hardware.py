"""What tells this network namespace of this machine from others, also after a reboot."""

from __future__ import annotations

import fcntl
import socket
import struct

SIOCGIFHWADDR = 0x8927
_REQUEST = struct.Struct("16sH6s8s")  # struct ifreq: name, family, hardware address, rest


def hardware_address() -> bytes | None:
    """The hardware address of the first network interface that has one; None if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in sorted(socket.if_nameindex()):
            request = _REQUEST.pack(name.encode(), 0, b"", b"")
            try:
                _, _, address, _ = _REQUEST.unpack(fcntl.ioctl(any_socket, SIOCGIFHWADDR, request))
            except OSError:  # it is gone
                continue
            if any(address):
                return bytes(address)
    return None
