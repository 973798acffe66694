"""Enters a network namespace, opens sockets in it, and returns to the own one. Needs CAP_SYS_ADMIN.

The calling thread changes its namespace, so nothing else may run on it meanwhile. Numbers are from linux/nsfs.h,
linux/sched.h and asm-generic/socket.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flowmap.opener.discovery import Found
from flowmap.opener.protocol import NETFILTER, Range, Tracking
from flowmap.system import privileges
from flowmap.system.privileges import Capability

_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x4000_0000
_SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 1 << 20
"""Bytes requested for the queue of each socket, so that a daemon without privileges has it too."""
_SYS = Path("/proc/sys/net")

_libc = ctypes.CDLL(None, use_errno=True)


class Entered(NamedTuple):
    """What was opened and read in a namespace."""

    sockets: tuple[socket.socket, ...]
    """One for each wanted protocol, in order; the caller closes them."""
    ports: Range | None
    tracking: Tracking


class Home:
    """The network namespace to return to."""

    def __init__(self) -> None:
        self._descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor of the own namespace."""
        os.close(self._descriptor)

    def open_in(self, namespace: Found, protocols: Iterable[int]) -> Entered:
        """Open netlink sockets of ``protocols`` in a namespace and read its settings; OSError if it cannot be entered.

        FileNotFoundError if the path stands for another namespace by now.
        """
        descriptor = _opened(namespace)
        try:
            _enter(descriptor)
            try:
                return _look(protocols)
            finally:
                self._return()
        finally:
            os.close(descriptor)

    def _return(self) -> None:
        try:
            _enter(self._descriptor)
        except OSError as error:  # in a wrong namespace this process is of no use, and keeps it alive
            os.write(2, f"flowmap: cannot return to the own network namespace: {error.strerror}\n".encode())
            os._exit(1)


def _opened(namespace: Found) -> int:
    # O_PATH has no side effects, whatever the path stands for.
    place = os.open(namespace.path, os.O_PATH | os.O_CLOEXEC)
    try:
        if os.fstat(place).st_dev != os.stat("/proc/self/ns/net").st_dev:
            raise FileNotFoundError(f"{namespace.path} is no namespace any more")
        descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    if os.fstat(descriptor).st_ino != namespace.inode or fcntl.ioctl(descriptor, _NS_GET_NSTYPE) != _CLONE_NEWNET:
        os.close(descriptor)
        raise FileNotFoundError(f"{namespace.path} stands for another namespace by now")
    return descriptor


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _look(protocols: Iterable[int]) -> Entered:
    sockets: list[socket.socket] = []
    try:
        for protocol in protocols:
            one = _netlink(protocol)
            sockets.append(one)
            with contextlib.suppress(OSError):  # without CAP_NET_ADMIN the default stays
                one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return Entered(tuple(sockets), _ports(), _tracking())


def _netlink(protocol: int) -> socket.socket:
    """A socket that can list addresses, but not change them, whatever capabilities its later holder has.

    For changes the kernel also checks the capabilities with which a socket was opened (netlink_net_capable in
    net/netlink/af_netlink.c). So it does for dumps of conntrack, which need CAP_NET_ADMIN.
    """
    raised = contextlib.nullcontext() if protocol == NETFILTER else privileges.lowered(Capability.NET_ADMIN)
    with raised:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


def _ports() -> Range | None:
    numbers = _numbers(_SYS / "ipv4/ip_local_port_range")
    return Range(*numbers) if len(numbers) == 2 else None


def _tracking() -> Tracking:
    values = (_numbers(_SYS / "netfilter" / f"nf_conntrack_{name}") for name in ("count", "acct", "events"))
    return Tracking(*(value[0] if value else -1 for value in values))


def _numbers(path: Path) -> list[int]:
    """The numbers in a file of /proc/sys, which shows those of the namespace that the thread is in."""
    try:
        return [int(word) for word in path.read_bytes().split()]
    except (OSError, ValueError):
        return []
