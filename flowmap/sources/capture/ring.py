"""One AF_PACKET socket with a TPACKET_V3 ring, for all interfaces of the network namespace (packet(7)).

One ring and not one an interface: packets stay in the order in which they came, an interface that goes takes nothing
with it, and which interfaces count is a matter of the filter. PACKET_FANOUT would spread packets over several rings
for several readers; there is one writer, and it reads faster than they come (see tests/bench/bench_capture.py).
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
"""Bytes of a block, unless the ring would have less than four."""
BLOCK_TIMEOUT = 100
"""Milliseconds after which the kernel hands over a block that is not full; it sleeps on where no packet came."""
NOTHING = (bpf.Instruction(6, 0, 0, 0),)
"""A filter that returns no bytes: no packet passes."""

_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION = 263, 5, 6, 10  # linux/if_packet.h
_TPACKET_V3 = 2
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_ETH_P_ALL = 3
_FRAME = 2048  # tp_frame_size: blocks of version 3 hold packets of any size, but the kernel wants a divisor
_REQUEST = struct.Struct("=7I")  # struct tpacket_req3

_COUNTS = struct.Struct("=3I")  # struct tpacket_stats_v3


class RingCounts(NamedTuple):
    """What the kernel counted since it was last asked."""

    packets: int
    """Packets that the filter let through, the dropped ones too."""
    dropped: int
    """Those that found no room."""
    freezes: int
    """Times the ring was full."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Blocks that the kernel handed over; theirs until :meth:`PacketRing.release`."""

    blocks: list[int]
    frames: RingFrames
    broken: int
    """Blocks whose packets cannot be found."""


class PacketRing:
    """The socket and its ring of about ``size`` bytes, in the network namespace of the thread that makes it.

    It hands over nothing before the first :meth:`attach`. SourceDenied without CAP_NET_RAW, SourceError if the ring
    cannot be had.
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
            self._attach(NOTHING)  # what came before it is thrown away when the ring is made
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            request = (block, self.size // block, _FRAME, self.size // _FRAME, BLOCK_TIMEOUT, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, _REQUEST.pack(*request))
            self._map = mmap.mmap(self._socket.fileno(), self.size)
        except OSError as error:
            self._socket.close()
            raise source_error(f"have a ring of {size} bytes", error) from error
        self._bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._words = self._bytes.view(np.uint32)
        self._next = 0  # offset of the block that comes next
        self._fence = threading.Lock()

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The whole ring; offsets of frames are from its begin."""
        return self._bytes

    def fileno(self) -> int:
        """Readable while a block is ready; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give up the ring; safe to call twice."""
        self._socket.close()  # the mapping goes with the last array that looks into it

    def attach(self, program: Sequence[bpf.Instruction]) -> None:
        """Take packets by this filter from now on; another takes the place of the one before without a gap."""
        try:
            self._attach(program)
        except OSError as error:
            raise source_error("attach a packet filter", error) from error

    def _attach(self, program: Sequence[bpf.Instruction]) -> None:
        code = ctypes.create_string_buffer(bpf.encode(program))
        # struct sock_fprog: a count, and a pointer that is aligned.
        fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)

    def ready(self, limit: int) -> Ready | None:
        """At most ``limit`` blocks that are ready, one after the other in memory; None if there is none."""
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
        """Hand the blocks back; what was made of their bytes must be a copy by now."""
        places = np.array(ready.blocks) >> 2
        self._words[places + NUM_PACKETS] = 0
        self._synchronise()
        self._words[places + BLOCK_STATUS] = np.uint32(BlockStatus.KERNEL)

    def filling(self) -> int | None:
        """The block that comes next, if packets wait in it already."""
        # The kernel counts a packet in the block's header before it copies it.
        return self._next if self._words[(self._next >> 2) + NUM_PACKETS] else None

    def counts(self) -> RingCounts:
        """What was counted since the last call: asking sets the kernel's counts to zero."""
        return RingCounts(*_COUNTS.unpack(self._socket.getsockopt(_SOL_PACKET, _STATISTICS, _COUNTS.size)))

    def _synchronise(self) -> None:
        """Order what was read and written before against what comes after.

        A lock that is taken and given back does that on every machine; Python has no plainer way.
        """
        with self._fence:
            pass


def source_error(what: str, error: OSError) -> SourceError:
    """The foreign error as ours, with what the operator can do."""
    message = f"cannot {what}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return SourceDenied(message, remedy="run as root or with CAP_NET_RAW")
    if error.errno == errno.ENOMEM:
        return SourceError(message, remedy="make collect.capture.ring smaller")
    if error.errno == errno.EAFNOSUPPORT:
        return SourceError(message, remedy="this kernel lacks packet sockets; load af_packet")
    return SourceError(message)
