"""The capture source: flows from the packets on interfaces, through a ring shared with the kernel.

There is no kernel table to read, so the first full read is empty. A connection older than the source appears with its
next packet, as a flow picked up in the middle. Nothing can be read again after a loss: a flow is known to be alive only
when it sends again, and after a long gap all flows are closed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowmap.errors import SourceError
from flowmap.flows.filter import Pattern
from flowmap.flows.records.batch import FlowBatch
from flowmap.model.source import SourceStats
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted, Step
from flowmap.sources.capture.filter import compile_filter
from flowmap.sources.capture.interfaces import Interface, InterfaceWatch, by_name
from flowmap.sources.capture.ring import BLOCK, BLOCK_TIMEOUT, NOTHING, PacketRing
from flowmap.sources.kinds import KINDS
from flowmap.sources.packets.flows import PacketFlows
from flowmap.sources.sockets.kernel import ephemeral_ports
from flowmap.wire.packets.bpf import Program, capture_program
from flowmap.wire.packets.frames import Tunnels, decode_frames
from flowmap.wire.packets.numbers import LinkType
from flowmap.wire.packets.packets import Index, Mark, Packets
from flowmap.wire.packets.tpacket import Hardware, RingFrames

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

LOOK_EVERY = 1.0
"""Seconds between two reads of the interfaces, and the longest time between two polls."""
REPORT_EVERY = 0.5
"""Seconds between two reports of growing counters."""
LONG_GAP = 2.0
"""Seconds between two polls after which, if packets were lost, no flow is assumed to continue."""
GENERAL_RATE = 50_000
"""Frames per second that are decoded one by one, also the largest burst. This takes less than half of a core, so a
flood of such frames does not stop the reading of the ring."""
LAST_BLOCK = 3 * BLOCK_TIMEOUT / 1000
"""Seconds that ``finish`` waits for a block that is not full."""
_BLOCKS = 16
_IP = (0x0800, 0x86DD)


class CaptureSource:
    """Packets of the network namespace of the thread that calls :meth:`open`.

    ``interfaces``: names; none for all. ``ring``: its size in bytes. ``snap``: bytes kept of each packet. ``pcap``: a
    filter in tcpdump's language. ``include``, ``exclude``: patterns of flows for the kernel's filter. ``tunnels``:
    whether the flow of a tunnel counts, or the flows inside.
    """

    facts = KINDS["capture"].facts

    def __init__(
        self,
        *,
        interfaces: Sequence[str] = (),
        ring: int = 64 << 20,
        snap: int = 128,
        pcap: str = "",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        tunnels: Tunnels = "outer",
        max_flows: int = 1_000_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ConfigError if ``pcap`` cannot be compiled."""
        self.stats = SourceStats()
        self.as_of = -np.inf
        self._waiting: tuple[int, float] | None = None
        """A block that was not delivered yet, and a time; all packets before it are in this block or earlier ones."""
        self._names = tuple(interfaces)
        self._size, self._snap, self._tunnels, self._max_flows, self._clock = ring, snap, tunnels, max_flows, clock
        self._user = compile_filter(pcap) if pcap else None
        self._patterns: tuple[list[Pattern], list[Pattern]] = [], []
        if tunnels == "outer":  # the kernel's filter does not see packets inside tunnels
            self._patterns = [Pattern.parse(one) for one in include], [Pattern.parse(one) for one in exclude]
        self._seed = os.urandom(48)
        self._ring: PacketRing | None = None
        self._watch: InterfaceWatch | None = None
        self._flows = self._new_flows(1)

    def configure(self, settings: CollectConfig) -> None:
        """Apply other patterns of flows; for the thread that reads the source.

        The kernel's filter is the union of all patterns so far, so flows that already count continue to count.
        """
        had = self._patterns
        wanted = [Pattern.parse(one) for one in settings.include], [Pattern.parse(one) for one in settings.exclude]
        either = [*had[0], *(one for one in wanted[0] if one not in had[0])] if had[0] and wanted[0] else []
        self._patterns = either, [one for one in had[1] if one in wanted[1]]
        if self._ring is not None:
            self._look(self._ring, attach=True)

    def open(self) -> None:
        """Create the ring; SourceDenied without CAP_NET_RAW."""
        self.close()
        self._numbers: dict[str, int] = {}
        self._listened: set[int] = set()
        self._gone: Counter[str] = Counter()
        self._ring = ring = PacketRing(self._size)
        try:
            self._watch = InterfaceWatch()
            self._look(ring, attach=True)
        except SourceError:
            self.close()
            raise
        self._flows = self._new_flows(self._flows.next_id)
        self._begun, self.as_of = False, -np.inf
        self._polled = self._opened = self._clock()
        self._general_left, self._general_since = float(GENERAL_RATE), self._polled
        self._waiting = None
        self.stats.receive_buffer = ring.size
        self.stats.up = True

    def close(self) -> None:
        """Close the sockets; safe to call twice."""
        self.stats.up = False
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def fileno(self) -> int:
        """Readable while a block is ready; -1 while closed."""
        return -1 if self._ring is None else self._ring.fileno()

    def deadline(self) -> float:
        """When interfaces and silent flows must be checked."""
        return self._polled + LOOK_EVERY

    def poll(self) -> Iterator[Step]:
        """Deliver the packets in the ring, at most about one full ring."""
        if self._ring is None:
            raise SourceError("the capture source is not open")
        if not self._begun:
            self._begun = True
            self.stats.count_resync("start")
            yield ReadStarted("start")
            yield ReadFinished(True)
            yield CaughtUp(self._opened)  # a handshake from here on belongs to a new connection
        began = self._clock()
        self._allow_general(began)
        dropped = self._ring.counts().dropped
        yield from self._read(self._ring, began)
        if dropped:
            yield from self._after_loss(dropped, began - self._polled)
        yield from self._flows.expire(self.as_of)
        if self.as_of > -np.inf:
            yield CaughtUp(self.as_of)
        if self._clock() - self._looked >= LOOK_EVERY:
            lost, found = self._look(self._ring)
            for number in lost:
                yield from self._flows.close_on(number)
            if found:
                self._flows.note_gap()
        self._polled = self._clock()

    def finish(self) -> Iterator[Step]:
        """Stop capturing, wait for the block that the kernel still fills, and report all counters."""
        if self._ring is None:
            return
        self._ring.attach(NOTHING)
        until = self._clock() + LAST_BLOCK
        yield from self.poll()
        while self._ring.filling() is not None and self._clock() < until:
            time.sleep(0.01)
            yield from self.poll()
        yield self._flows.report()

    def _allow_general(self, now: float) -> None:
        self._general_left = min(GENERAL_RATE, self._general_left + GENERAL_RATE * (now - self._general_since))
        self._general_since = now

    def _after_loss(self, dropped: int, gap: float) -> list[FlowBatch]:
        """Report a loss; after the ring was read, since its packets are older than the dropped ones."""
        self._lose({"ring_full": dropped})
        self.stats.overruns += 1
        return self._flows.close_all() if gap > LONG_GAP else [self._flows.mark_doubtful()]

    def _read(self, ring: PacketRing, began: float) -> Iterator[Step]:
        offset = time.time() - self._clock()
        left = ring.size // BLOCK + _BLOCKS
        while left > 0:
            ready = ring.ready(min(left, _BLOCKS))
            if ready is None:
                break
            left -= len(ready.blocks)
            self._lose({"malformed_block": ready.broken})
            try:
                batches = self._decode(ring, ready.frames, offset)
            finally:
                ring.release(ready)
            if self._waiting is not None and self._waiting[0] in ready.blocks:
                self.as_of, self._waiting = self._waiting[1], None
            yield from batches
        filling = ring.filling()
        if filling is None:
            self.as_of, self._waiting = began, None
        elif self._waiting is None:
            self._waiting = filling, began

    def _decode(self, ring: PacketRing, frames: RingFrames, offset: float) -> list[FlowBatch]:
        """Records of the flows that the frames changed. The link layer is decoded only if IP does not follow it."""
        if not len(frames):
            return []
        self.stats.records += len(frames)
        times = np.minimum(frames.time - offset, self._clock())
        is_ip = np.isin(frames.protocol, _IP)
        if is_ip.all():
            packets, index = self._packets(ring, frames, frames.net, LinkType.RAW)
        else:
            ethernet = (frames.hardware == Hardware.ETHER) | (frames.hardware == Hardware.LOOPBACK)
            places = np.flatnonzero(is_ip), np.flatnonzero(~is_ip & ethernet)
            self._count_exceptional({"not_ip": int(np.count_nonzero(~is_ip & ~ethernet))})
            plain = self._packets(ring, frames.take(places[0]), frames.net[places[0]], LinkType.RAW)
            other = self._packets(ring, frames.take(places[1]), frames.mac[places[1]], LinkType.ETHERNET)
            packets, index = _merged(plain, other, places)
        if not len(packets):
            return []
        before = self._flows.counts.exceptional()
        batches = self._flows.take(packets, times[index], frames.interface[index])
        after = self._flows.counts.exceptional()
        self._count_exceptional({reason: number - before[reason] for reason, number in after.items()})
        if self._flows.counts.shed:
            note = f"{self._flows.counts.shed} flows were closed early: raise collect.max_flows"
            self.stats.notes = {**self.stats.notes, "shed": note}
        return batches

    def _packets(
        self, ring: PacketRing, frames: RingFrames, starts: Index, link_type: LinkType
    ) -> tuple[Packets, Index]:
        ahead = starts - frames.mac
        decoded = decode_frames(
            ring.data,
            starts,
            frames.captured - ahead,
            frames.length - ahead,
            link_type,
            tunnels=self._tunnels,
            limit=int(self._general_left),
        )
        self._general_left -= decoded.general
        self._lose({**decoded.malformed, "decode_limit": decoded.refused})
        unopened = int(np.count_nonzero(decoded.packets.flags & np.uint16(Mark.UNOPENED)))
        not_ip = sum(decoded.other.values()) + sum(decoded.unread.values())
        self._count_exceptional({"not_ip": not_ip, "unopened": unopened})
        return decoded.packets, decoded.index

    def _count_exceptional(self, reasons: Mapping[str, int]) -> None:
        self.stats.exceptional_packets = _added(self.stats.exceptional_packets, reasons)

    def _lose(self, reasons: Mapping[str, int]) -> None:
        self.stats.lost = _added(self.stats.lost, reasons)

    def _look(self, ring: PacketRing, *, attach: bool = False) -> tuple[set[int], set[int]]:
        """Read the interfaces and update the filter and the notes. A name that reappears counts again.

        Returns the numbers of interfaces that went down or were removed, and of those that are newly up.
        """
        self._looked = self._clock()
        found = self._interfaces()
        listened, self._listened = self._listened, {interface.number for interface in found.values() if interface.up}
        numbers = {name: interface.number for name, interface in found.items()} if self._names else {}
        for name in self._numbers.keys() - numbers.keys():
            self._gone[name] += 1
        if attach or numbers != self._numbers:
            ring.attach(self._program(sorted(set(numbers.values())) if self._names else None))
            self._numbers = numbers
        self._note_interfaces(found)
        return listened - self._listened, self._listened - listened

    def _interfaces(self) -> dict[str, Interface]:
        """The captured interfaces, by the names of the configuration."""
        assert self._watch is not None, "opened with the ring"
        if (there := self._watch.refresh()) is not None:
            self._there = by_name(there, self._names)
        return self._there

    def _note_interfaces(self, found: Mapping[str, Interface]) -> None:
        notes = {key: note for key, note in self.stats.notes.items() if not key.startswith("interface ")}
        for name in self._names:
            if name not in found:
                notes[f"interface {name}"] = "missing; its packets count as soon as it appears"
            elif not found[name].up:
                notes[f"interface {name}"] = "down"
            elif self._gone[name]:
                notes[f"interface {name}"] = f"was missing {self._gone[name]} times; packets were not seen meanwhile"
        if notes != self.stats.notes:
            self.stats.notes = notes
        self.stats.interfaces = {name: name in found and found[name].up for name in self._names}

    def _program(self, interfaces: Sequence[int] | None) -> Program:
        include, exclude = self._patterns
        return capture_program(
            snap=self._snap, interfaces=interfaces, include=include, exclude=exclude, user=self._user
        )

    def _new_flows(self, first_id: int) -> PacketFlows:
        ports = ephemeral_ports()
        self.stats.notes = {**self.stats.notes, **ports.notes()}
        return PacketFlows(
            self._max_flows,
            seed=self._seed,
            ephemeral=(ports.first, ports.last),
            report_every=REPORT_EVERY,
            first_id=first_id,
        )


def _added(counts: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The sums; the same object if there is nothing to add, since other threads read it."""
    some = {reason: number for reason, number in more.items() if number}
    return counts | {reason: counts.get(reason, 0) + number for reason, number in some.items()} if some else counts


def _merged(
    plain: tuple[Packets, Index], other: tuple[Packets, Index], places: tuple[Index, Index]
) -> tuple[Packets, Index]:
    """Packets of two kinds of frames, in the order of the frames."""
    index = np.concatenate([place[found] for place, (_, found) in zip(places, (plain, other), strict=True)])
    order = np.argsort(index, kind="stable")
    return Packets.concatenate([plain[0], other[0]]).take(order), index[order]
