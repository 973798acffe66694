"""Decodes captured frames to packets, many at a time.

The common shapes are read as columns, each header of all frames at once: Ethernet with or without VLAN tags, Linux
cooked, raw and loopback; IPv4, IPv6 without extension headers; VXLAN, Geneve and IP in IP if tunnels are opened. Other
frames are decoded by :func:`flowmap.wire.packets.frame.decode_frame`, which gives the same results for these shapes.
Frames of link types unknown to both are decoded by scapy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.model.address import V4_MAPPED
from flowmap.wire.packets import frame
from flowmap.wire.packets.link import TAGS
from flowmap.wire.packets.names import describe_ethertype
from flowmap.wire.packets.numbers import (
    ACK,
    ARPHRD_NETLINK,
    EXTENSIONS,
    FAMILY_IPV4,
    FAMILY_IPV6,
    GENEVE_PORT,
    HEADER_NEEDS,
    IP_TUNNELS,
    LEAST_ETHERTYPE,
    OTHER_NAMES,
    RST,
    STEPPED_OVER,
    SYN,
    VLAN_TAGS,
    VXLAN_PORTS,
    EtherType,
    LinkType,
    Protocol,
)
from flowmap.wire.packets.packets import Index, Mark, Packet, Packets, Skipped, Why
from flowmap.wire.packets.scapy_fallback import ScapyFallback

Data = bytes | bytearray | memoryview | npt.NDArray[np.uint8]
Tunnels = Literal["outer", "inner"]

_Bytes = npt.NDArray[np.uint8]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DecodedFrames:
    """The packets of some frames, and counts of frames without one."""

    packets: Packets
    """In the order of their frames; at most one for each frame."""
    index: Index
    """Number of the frame of each packet, ascending."""
    malformed: dict[str, int]
    """Broken or cut frames, by reason (see :class:`flowmap.wire.packets.packets.Skipped`)."""
    unread: dict[str, int]
    """Valid frames that may contain IP behind a header that is not decoded, by the name of that header."""
    other: dict[str, int]
    """Valid frames without an IP packet, by the name of their content."""
    general: int
    """Frames that were decoded one by one."""
    refused: int = 0
    """Frames that were not decoded because of ``limit``."""


def _layout(size: int, **fields: tuple[int, str]) -> np.dtype[np.void]:
    offsets, formats = [at for at, _ in fields.values()], [kind for _, kind in fields.values()]
    return np.dtype({"names": list(fields), "offsets": offsets, "formats": formats, "itemsize": size})


_ETHERNET = _layout(14, kind=(12, ">u2"))
_FAMILY = _layout(4, family=(0, ">u4"))
_SLL = _layout(16, device=(2, ">u2"), kind=(14, ">u2"))
_SLL2 = _layout(20, kind=(0, ">u2"), device=(8, ">u2"))
_TAG = _layout(4, kind=(2, ">u2"))
_IPV4 = _layout(
    20, first=(0, "u1"), total=(2, ">u2"), id=(4, ">u2"), fragment=(6, ">u2"), protocol=(9, "u1"),
    source=(12, ">u4"), destination=(16, ">u4"),
)  # fmt: skip
_IPV6 = _layout(
    40, first=(0, "u1"), payload=(4, ">u2"), protocol=(6, "u1"), source_high=(8, ">u8"), source_low=(16, ">u8"),
    destination_high=(24, ">u8"), destination_low=(32, ">u8"),
)  # fmt: skip
_PORTS = _layout(4, source=(0, ">u2"), destination=(2, ">u2"))
_TCP = _layout(
    14, source=(0, ">u2"), destination=(2, ">u2"), sequence=(4, ">u4"), acknowledged=(8, ">u4"), flags=(13, "u1")
)  # fmt: skip
_VXLAN = _layout(16, flags=(8, "u1"))
_GRE = _layout(4, flags=(0, ">u2"), kind=(2, ">u2"))
_ERSPAN = _layout(8, first=(0, "u1"))
_GENEVE = _layout(16, first=(8, "u1"), control=(9, "u1"), kind=(10, ">u2"))

_NEEDS = np.zeros(256, np.int64)
for _protocol, _size in HEADER_NEEDS.items():
    _NEEDS[_protocol] = _size
_IS_EXTENSION = np.isin(np.arange(256), EXTENSIONS)
_IS_IP_TUNNEL = np.isin(np.arange(256), IP_TUNNELS)
_GENERAL_TYPES = np.array(
    [EtherType.MPLS, EtherType.MPLS_MULTICAST, EtherType.PPPOE, EtherType.CISCO_METADATA, *STEPPED_OVER], np.uint16
)
_MORE, _OFFSET = 0x2000, 0x1FFF  # of an IPv4 fragment

_LEFT, _PACKET, _OTHER = range(3)  # the result of a frame; _LEFT, the default: for the general decoder


class _Group(NamedTuple):
    """Frames positioned at headers of the same kind."""

    rows: Index
    """Numbers of the frames."""
    at: Index
    """Start of each header."""
    end: Index
    """End of the captured bytes that belong to the frame or packet."""
    wire: Index
    """End of the frame, or of the enclosing packet, on the wire."""

    def where(self, mask: _Mask) -> _Group:
        return self if mask.all() else _Group(*(column[mask] for column in self))

    def ahead(self, size: int | Index) -> _Group:
        return self._replace(at=self.at + size)


def decode_frames(
    data: Data,
    starts: npt.ArrayLike,
    captured: npt.ArrayLike,
    wire_lengths: npt.ArrayLike,
    link_type: int,
    *,
    tunnels: Tunnels = "outer",
    fallback: ScapyFallback | None = None,
    limit: int | None = None,
) -> DecodedFrames:
    """Decode the frames of ``data`` that start at ``starts``, with ``captured`` bytes each.

    ``wire_lengths``: their bytes on the wire. ``link_type``: a :class:`LinkType`. Frames are valid without the VLAN tag
    that the kernel removes. ``tunnels``: decode a tunnel's packet as itself or as the innermost packet (see
    :func:`flowmap.wire.packets.frame.decode_frame`). ``fallback``: decodes frames of link types unknown here.
    ``limit``: largest number of frames to decode one by one.

    Does not raise for any content, and bytes outside a frame do not change its result.
    """
    view = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    at = np.asarray(starts, np.int64)
    end = np.clip(at + np.asarray(captured, np.int64), at, len(view))
    wire = np.maximum(at + np.asarray(wire_lengths, np.int64), end)
    columns = _Columns(view, len(at), tunnels == "inner")
    columns.link(_Group(np.arange(len(at)), at, end, wire), link_type)
    counts = columns.skipped
    left = np.flatnonzero(columns.fate == _LEFT)
    waiting, left = len(left), left[:limit]
    for row, begin, stop, length in zip(
        *(column.tolist() for column in (left, at[left], end[left], wire[left] - at[left])), strict=True
    ):
        one = view[begin:stop].tobytes()
        found = frame.decode_frame(one, length, link_type, inner=columns.inner)
        if fallback is not None and isinstance(found, Skipped) and found.why is Why.LINK:
            found = fallback.decode(one, length, link_type, inner=columns.inner) or found
        if isinstance(found, Packet):
            columns.put(row, found)
        else:
            counts[found.why][found.reason] += 1
    packets, index = columns.packets, np.flatnonzero(columns.fate == _PACKET)
    if len(index) != len(at):
        packets = packets.take(index)
    malformed, unread, other = (dict(counts[why]) for why in (Why.MALFORMED, Why.UNREAD, Why.NOT_IP))
    unread |= counts[Why.LINK]
    return DecodedFrames(packets, index, malformed, unread, other, len(left), waiting - len(left))


def _opener_sequence(head: npt.NDArray[np.void]) -> npt.NDArray[np.uint32]:
    """The column ``sequence`` of :data:`flowmap.wire.packets.packets.COLUMNS`, for TCP headers with SYN or RST."""
    number, acknowledged = (head[name].astype(np.uint32) for name in ("sequence", "acknowledged"))
    flags = head["flags"]
    syn, answer = (flags & SYN) != 0, (flags & ACK) != 0
    answers = answer & (acknowledged != 0) & (syn | (number == 0))
    return np.where(answers, acknowledged - np.uint32(1), np.where(syn & ~answer, number, np.uint32(0)))


class _Columns:
    """The frames of one call, and their results so far."""

    def __init__(self, data: _Bytes, number: int, inner: bool) -> None:
        self.data = data
        self.inner = inner
        self.packets = Packets(number)
        self.fate = np.full(number, _LEFT, np.uint8)
        self.skipped: dict[Why, Counter[str]] = {why: Counter() for why in Why}
        self._depth = 0  # of tunnels; inside one, other content leaves the frame to the general decoder

    def put(self, row: int, packet: Packet) -> None:
        """Store a packet that was decoded alone."""
        for column, value in zip(self.packets.columns().values(), packet, strict=True):
            column[row] = value
        self.fate[row] = _PACKET

    def link(self, frames: _Group, link_type: int) -> None:
        if link_type == LinkType.ETHERNET:
            self._ethernet(frames)
        elif link_type in (LinkType.SLL, LinkType.SLL2):
            self._cooked(frames, _SLL2 if link_type == LinkType.SLL2 else _SLL)
        elif link_type in (LinkType.RAW, LinkType.RAW_DLT):
            self._ip(frames)
        elif link_type in (LinkType.IPV4, LinkType.IPV6):
            (self._ipv4 if link_type == LinkType.IPV4 else self._ipv6)(frames)
        elif link_type in (LinkType.NULL, LinkType.LOOP):
            self._loopback(frames)

    def _read(self, group: _Group, layout: np.dtype[np.void]) -> tuple[_Group, npt.NDArray[np.void]]:
        """The headers of the group, and the group without the frames that are too short for one."""
        size = layout.itemsize
        group = group.where(group.at + size <= group.end)
        if not len(group.rows):
            return group, np.zeros(0, layout)
        anywhere = np.ndarray((len(self.data) - size + 1,), f"V{size}", self.data, strides=(1,))
        return group, anywhere[group.at].view(layout)

    def _places(self, group: _Group) -> Index | slice:
        """Index of its frames in the columns of all frames; a slice for all, which numpy handles faster."""
        return slice(None) if len(group.rows) == len(self.fate) else group.rows

    def _ethernet(self, group: _Group) -> None:
        group, head = self._read(group, _ETHERNET)
        self._network(group.ahead(14), head["kind"].astype(np.uint16))

    def _loopback(self, group: _Group) -> None:
        group, head = self._read(group, _FAMILY)
        for families, step in ((FAMILY_IPV4, self._ipv4), (FAMILY_IPV6, self._ipv6)):
            mask = np.isin(head["family"], families)
            if mask.any():
                step(group.where(mask).ahead(4))

    def _cooked(self, group: _Group, layout: np.dtype[np.void]) -> None:
        group, head = self._read(group, layout)
        kinds = head["kind"].astype(np.uint16)
        kinds[head["device"] == ARPHRD_NETLINK] = 0
        self._network(group.ahead(layout.itemsize), kinds)

    def _network(self, group: _Group, kinds: npt.NDArray[np.uint16], tags: int = 0) -> None:
        known = np.zeros(len(kinds), np.bool_)
        steps: tuple[tuple[int, Callable[[_Group], None]], ...] = (
            (EtherType.IPV4, self._ipv4),
            (EtherType.IPV6, self._ipv6),
        )
        for kind, step in steps:
            mask = kinds == kind
            if mask.any():
                step(group.where(mask))
                if mask.all():
                    return
                known |= mask
        tagged = np.isin(kinds, VLAN_TAGS)
        if tags < TAGS - 1 and tagged.any():
            inside, head = self._read(group.where(tagged), _TAG)
            self._network(inside.ahead(4), head["kind"].astype(np.uint16), tags + 1)
        if self._depth == 0:
            known |= tagged | (kinds < LEAST_ETHERTYPE) | np.isin(kinds, _GENERAL_TYPES)
            self._count_others(group.rows[~known], kinds[~known])

    def _count_others(self, rows: Index, kinds: npt.NDArray[np.uint16]) -> None:
        self.fate[rows] = _OTHER
        for kind, number in zip(*(found.tolist() for found in np.unique(kinds, return_counts=True)), strict=True):
            self.skipped[Why.NOT_IP if kind in OTHER_NAMES else Why.UNREAD][describe_ethertype(kind)] += number

    def _ip(self, group: _Group) -> None:
        group = group.where(group.at < group.end)
        six = self.data[group.at] >> 4 == 6
        for mask, step in ((six, self._ipv6), (~six, self._ipv4)):
            if mask.any():
                step(group.where(mask))

    def _ipv4(self, group: _Group) -> None:
        group, head = self._read(group, _IPV4)
        total, first = head["total"].astype(np.int64), head["first"]
        header = (first & 15).astype(np.int64) * 4
        good = (first >> 4 == 4) & (header >= 20) & (total >= header)
        good &= (group.at + total <= group.wire) & (group.at + header <= group.end)
        if not good.all():
            group, head, total, header = group.where(good), head[good], total[good], header[good]
        fragment, out, rows = head["fragment"].astype(np.uint16), self.packets, self._places(group)
        parted = fragment & (_MORE | _OFFSET) != 0
        later = fragment & _OFFSET != 0
        out.source_high[rows] = out.destination_high[rows] = 0
        out.source_low[rows] = head["source"] | np.uint64(V4_MAPPED)
        out.destination_low[rows] = head["destination"] | np.uint64(V4_MAPPED)
        out.fragment_id[rows] = np.where(parted, head["id"], 0)
        out.flags[rows] = np.where(later, Mark.FRAGMENT_LATER, parted * Mark.FRAGMENT_FIRST)
        inside = self._within(group, total).ahead(header)
        self._transport(inside, head["protocol"], total, parted, later)

    def _ipv6(self, group: _Group) -> None:
        group, head = self._read(group, _IPV6)
        total, protocol = head["payload"].astype(np.int64) + 40, head["protocol"]
        good = (head["first"] >> 4 == 6) & (total > 40) & ~_IS_EXTENSION[protocol] & (group.at + total <= group.wire)
        if not good.all():
            group, head, total, protocol = group.where(good), head[good], total[good], protocol[good]
        out, rows = self.packets, self._places(group)
        for name in ("source_high", "source_low", "destination_high", "destination_low"):
            getattr(out, name)[rows] = head[name]
        out.fragment_id[rows] = out.flags[rows] = 0
        whole = np.zeros(len(group.rows), np.bool_)
        self._transport(self._within(group, total).ahead(40), protocol, total, whole, whole)

    def _within(self, group: _Group, total: Index) -> _Group:
        """The group limited to packets of ``total`` bytes, without the padding after them."""
        wire = group.at + total
        return group._replace(end=np.minimum(group.end, wire), wire=wire)

    def _transport(self, group: _Group, protocol: _Bytes, total: Index, parted: _Mask, later: _Mask) -> None:
        """Store the packets; open those of tunnels if requested."""
        out, needs = self.packets, np.where(later, 0, _NEEDS[protocol])
        fits = group.at + needs <= group.end
        if not fits.all():
            group, needs, parted = group.where(fits), needs[fits], parted[fits]
            protocol, total = protocol[fits], total[fits]
        rows = self._places(group)
        out.protocol[rows], out.length[rows] = protocol, total
        self.fate[rows] = _PACKET
        tcp = needs == HEADER_NEEDS[Protocol.TCP]
        segments, head = self._read(group.where(tcp), _TCP)
        if len(segments.rows) != len(group.rows):
            others, ports = self._read(group.where((needs > 0) & ~tcp), _PORTS)
            out.source_port[rows] = out.destination_port[rows] = out.tcp_flags[rows] = 0
            out.source_port[others.rows], out.destination_port[others.rows] = ports["source"], ports["destination"]
        rows = self._places(segments)
        out.source_port[rows], out.destination_port[rows] = head["source"], head["destination"]
        out.tcp_flags[rows] = head["flags"]
        telling = np.flatnonzero(head["flags"] & (SYN | RST))
        if len(telling):
            out.sequence[segments.rows[telling]] = _opener_sequence(head[telling])
        if self.inner:
            self._tunnels(group, protocol, parted)

    def _tunnels(self, group: _Group, protocol: _Bytes, parted: _Mask) -> None:
        """Replace each tunnel's packet by the packet inside."""
        port = np.where(protocol == Protocol.UDP, self.packets.destination_port[group.rows], 0)
        vxlan, geneve = np.isin(port, VXLAN_PORTS), port == GENEVE_PORT
        tunnel = vxlan | geneve | _IS_IP_TUNNEL[protocol]
        if not tunnel.any():
            return
        self.fate[group.rows[tunnel]] = _LEFT
        if self._depth == frame.TUNNELS:
            return
        self._depth += 1
        steps: tuple[tuple[_Mask, Callable[[_Group], None]], ...] = (
            (protocol == Protocol.IPV4, self._ipv4),
            (protocol == Protocol.IPV6, self._ipv6),
            (protocol == Protocol.GRE, self._gre),
            (vxlan, self._vxlan),
            (geneve, self._geneve),
        )
        for mask, step in steps:
            if mask.any():
                step(group.where(mask & ~parted))
        self._depth -= 1

    def _vxlan(self, group: _Group) -> None:
        group, head = self._read(group, _VXLAN)
        self._ethernet(group.where(head["flags"] & 0x08 != 0).ahead(16))

    def _geneve(self, group: _Group) -> None:
        group, head = self._read(group, _GENEVE)
        first = head["first"]
        size = 16 + (first & 0x3F).astype(np.int64) * 4
        good = (first >> 6 == 0) & (head["control"] & 0x80 == 0) & (group.at + size <= group.end)
        self._bridged(group.where(good).ahead(size[good]), head["kind"][good])

    def _gre(self, group: _Group) -> None:
        group, head = self._read(group, _GRE)
        flags = head["flags"].astype(np.int64)
        size = 4 + 4 * ((flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1))
        good = (flags & 0x4007 == 0) & (group.at + size <= group.end)
        kinds, group = head["kind"][good], group.where(good).ahead(size[good])
        mirrored = kinds == EtherType.ERSPAN
        if mirrored.any():
            self._erspan(group.where(mirrored), flags[good][mirrored] & 0x1000 != 0)
            group, kinds = group.where(~mirrored), kinds[~mirrored]
        self._bridged(group, kinds)

    def _erspan(self, group: _Group, numbered: _Mask) -> None:
        """Types I and II; the general decoder decodes type III."""
        second, head = self._read(group.where(numbered), _ERSPAN)
        for inside in (second.where(head["first"] >> 4 == 1).ahead(8), group.where(~numbered)):
            if len(inside.rows):
                self._ethernet(inside)

    def _bridged(self, group: _Group, kinds: npt.NDArray[np.generic]) -> None:
        bridged = kinds == EtherType.BRIDGED
        if bridged.any():
            self._ethernet(group.where(bridged))
        self._network(group.where(~bridged), kinds[~bridged].astype(np.uint16))
