"""Dropping of privileges: capabilities, core dumps, new privileges.

Capabilities belong to threads, and a new thread inherits those of its creator. So privileges are dropped on the main
thread before any other thread starts. Numbers are from linux/capability.h and linux/prctl.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator, Set
from enum import IntEnum

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47  # since 4.3
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x2008_0522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits each
_MOST = 64


class Capability(IntEnum):
    """The capabilities that flowmap can use."""

    NET_ADMIN = 12
    NET_RAW = 13
    SYS_PTRACE = 19
    SYS_ADMIN = 21


OPENER = frozenset({Capability.SYS_ADMIN, Capability.SYS_PTRACE, Capability.NET_ADMIN})
"""What ``flowmap opener`` keeps: to enter namespaces, to see those of other users' processes, and for sockets with a
larger queue and with conntrack."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Words(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def harden() -> None:
    """Forbid core dumps, access to memory by processes of the same user, and privileges gained through exec.

    Call it at startup, before secrets are in memory.
    """
    with contextlib.suppress(OSError):  # a seccomp filter may refuse it; the next line is sufficient
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop(keep: Set[Capability]) -> None:
    """Drop all capabilities except ``keep``; OSError if the kernel refuses.

    A root process keeps its user id: it can still read its files, with no more rights than their owner.
    """
    _drop_bounding(keep)
    with contextlib.suppress(OSError):  # kernels before 4.3 have no ambient set
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    permitted = _permitted() & sum(1 << capability for capability in keep)
    words = (_Words * 2)()
    for n, word in enumerate(words):
        word.effective = word.permitted = permitted >> 32 * n & 0xFFFF_FFFF
    _check(_libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), words))


@contextlib.contextmanager
def lowered(capability: Capability) -> Iterator[None]:
    """Run the body without a capability, on this thread; it stays permitted. No effect if it is not held."""
    words = (_Words * 2)()
    header = _Header(_VERSION_3, 0)
    _check(_libc.capget(ctypes.byref(header), words))
    before = words[capability // 32].effective
    words[capability // 32].effective = before & ~(1 << capability % 32)
    _check(_libc.capset(ctypes.byref(header), words))
    try:
        yield
    finally:
        words[capability // 32].effective = before
        _check(_libc.capset(ctypes.byref(header), words))


def held() -> frozenset[Capability]:
    """The capabilities of this process, of those in :class:`Capability`."""
    permitted = _permitted()
    return frozenset(capability for capability in Capability if permitted >> capability & 1)


def threads() -> int | None:
    """Number of threads, including those of libraries; None if /proc cannot be read (see ``system.proc``)."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return None


def _drop_bounding(keep: Set[Capability]) -> None:
    """Drop from the bounding set. Needs CAP_SETPCAP; without it :func:`harden` still prevents new privileges."""
    kept = {int(capability) for capability in keep}
    with contextlib.suppress(PermissionError):
        for number in range(_MOST):
            known = _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)
            if known == 1 and number not in kept:
                _prctl(_PR_CAPBSET_DROP, number)


def _permitted() -> int:
    words = (_Words * 2)()
    _check(_libc.capget(ctypes.byref(_Header(_VERSION_3, 0)), words))
    return int(words[0].permitted) | int(words[1].permitted) << 32


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
