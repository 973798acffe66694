"""One AF_PACKET socket with a TPACKET_V3 ring, for all interfaces of the network namespace (packet(7)).

With one ring for all interfaces, packets stay in order of arrival, a removed interface loses none, and the filter
selects interfaces. PACKET_FANOUT would distribute packets over several rings. That is not needed: one thread reads
faster than packets arrive (see tests/bench/bench_capture.py).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.errors import SourceDenied, SourceError
from flowmap.wire.packets import bpf
from flowmap.wire.packets.packets import Index
from flowmap.wire.packets.tpacket import BLOCK_STATUS, NUM_PACKETS, BlockStatus, RingFrames, find_packets

BLOCK = 1 << 20
"""Bytes of a block; smaller if the ring would have fewer than four blocks."""
BLOCK_TIMEOUT = 100
"""Milliseconds after which the kernel delivers a block that is not full; an empty block is never delivered."""
NOTHING = (bpf.Instruction(6, 0, 0, 0),)
"""A filter that drops every packet."""

_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION = 263, 5, 6, 10  # linux/if_packet.h
_TPACKET_V3 = 2
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_ETH_P_ALL = 3
_FRAME = 2048  # tp_frame_size: unused by version 3, but the kernel requires a divisor of the block size
_REQUEST = struct.Struct("=7I")  # struct tpacket_req3

_COUNTS = struct.Struct("=3I")  # struct tpacket_stats_v3


class RingCounts(NamedTuple):
    """Counters of the kernel since the previous read."""

    packets: int
    """Packets that passed the filter, including dropped ones."""
    dropped: int
    """Packets dropped because the ring was full."""
    freezes: int
    """How often the ring was full."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Blocks delivered by the kernel; valid until :meth:`PacketRing.release`."""

    blocks: list[int]
    frames: RingFrames
    broken: int
    """Blocks without a valid chain of packets."""


class PacketRing:
    """The socket and its ring of about ``size`` bytes, in the network namespace of the creating thread.

    It delivers no packet before the first :meth:`attach`. SourceDenied without CAP_NET_RAW, SourceError if the ring
    cannot be created.
    """

    def __init__(self, size: int) -> None:
        block = min(BLOCK, max(mmap.PAGESIZE, 1 << (size // 4).bit_length() - 1))
        self.size, self.block = size // block * block, block
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL)
            )
        except OSError as error:
            raise source_error("open a packet socket", error) from error
        try:
            self._socket.setblocking(False)
            self._attach(NOTHING)  # packets before this call are discarded when the ring is created
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            request = (block, self.size // block, _FRAME, self.size // _FRAME, BLOCK_TIMEOUT, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, _REQUEST.pack(*request))
            self._map = mmap.mmap(self._socket.fileno(), self.size)
        except OSError as error:
            self._socket.close()
            raise source_error(f"create a ring of {size} bytes", error) from error
        self._bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._words = self._bytes.view(np.uint32)
        self._next = 0  # offset of the next block
        self._fence = threading.Lock()

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The whole ring; offsets of frames are from its start."""
        return self._bytes

    def fileno(self) -> int:
        """Readable while a block is ready; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self._socket.close()  # the mapping is freed with the last array on it

    def attach(self, program: Sequence[bpf.Instruction]) -> None:
        """Use this filter from now on; it replaces the previous one without a gap."""
        try:
            self._attach(program)
        except OSError as error:
            raise source_error("attach a packet filter", error) from error

    def _attach(self, program: Sequence[bpf.Instruction]) -> None:
        code = ctypes.create_string_buffer(bpf.encode(program))
        # struct sock_fprog: a count and an aligned pointer.
        fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)

    def ready(self, limit: int) -> Ready | None:
        """At most ``limit`` delivered blocks, adjacent in memory; None without one."""
        words, step = self._words, self.block >> 2
        first, last = self._next >> 2, min(self._next + limit * self.block, self.size) >> 2
        status = words[first + BLOCK_STATUS : last : step] & np.uint32(BlockStatus.USER)
        count = len(status) if status.all() else int(status.argmin())
        if not count:
            return None
        self._synchronise()
        blocks = list(range(self._next, self._next + count * self.block, self.block))
        found = [find_packets(words, block, self.block) for block in blocks]
        places: list[Index] = [places for places in found if places is not None]
        self._next = (self._next + count * self.block) % self.size
        every = np.concatenate([np.zeros(0, np.int64), *places])
        return Ready(blocks, RingFrames.at(self._bytes, every), len(found) - len(places))

    def release(self, ready: Ready) -> None:
        """Return the blocks to the kernel; no view of their bytes may be used afterwards."""
        places = np.array(ready.blocks) >> 2
        self._words[places + NUM_PACKETS] = 0
        self._synchronise()
        self._words[places + BLOCK_STATUS] = np.uint32(BlockStatus.KERNEL)

    def filling(self) -> int | None:
        """The next block if it already has packets, else None."""
        # The kernel counts a packet in the block's header before it copies the packet.
        return self._next if self._words[(self._next >> 2) + NUM_PACKETS] else None

    def counts(self) -> RingCounts:
        """The counters since the last call: reading them resets them."""
        return RingCounts(*_COUNTS.unpack(self._socket.getsockopt(_SOL_PACKET, _STATISTICS, _COUNTS.size)))

    def _synchronise(self) -> None:
        """A memory barrier between earlier and later accesses to the ring.

        Acquiring and releasing a lock is one on every machine; Python has no other.
        """
        with self._fence:
            pass


def source_error(what: str, error: OSError) -> SourceError:
    """The error translated, with a remedy."""
    message = f"cannot {what}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return SourceDenied(message, remedy="run as root or with CAP_NET_RAW")
    if error.errno == errno.ENOMEM:
        return SourceError(message, remedy="reduce collect.capture.ring")
    if error.errno == errno.EAFNOSUPPORT:
        return SourceError(message, remedy="this kernel lacks packet sockets; load af_packet")
    return SourceError(message)
