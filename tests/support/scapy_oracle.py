"""What scapy says a frame is: the flow and length of every IP packet in it, outermost first."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from flowmap.model.address import Address
from flowmap.wire.packets.numbers import GENEVE_PORT, VXLAN_PORTS, LinkType
from tests.support.scapy_layers import conf, geneve, inet, inet6, ipsec, sctp, vxlan

_CHAIN = (
    *(inet6.IPv6ExtHdrHopByHop, inet6.IPv6ExtHdrRouting, inet6.IPv6ExtHdrFragment, inet6.IPv6ExtHdrDestOpt),
    *(ipsec.AH,),
)
_PORTED = (inet.TCP, inet.UDP, sctp.SCTP)
_TUNNELS = dict.fromkeys(VXLAN_PORTS, vxlan.VXLAN) | {GENEVE_PORT: geneve.GENEVE}


class Named(NamedTuple):
    """An IP packet."""

    ends: tuple[int, int, int, int]
    ports: tuple[int, int] | None
    """None if scapy found no transport header that it knows."""
    protocol: int
    lengths: Sequence[int]
    """Those the packet may have; several only where its own length field is 0: then it ends with what is around it,
    and scapy does not say where that does."""


def names(frame: bytes, wire_length: int, link_type: int) -> list[Named]:
    """The packets that are inside each other. Empty if there is none, or scapy fails."""
    found: list[Named] = []
    at, begin, first = 0, 0, conf.l2types[link_type]
    if link_type in (LinkType.NULL, LinkType.LOOP):  # scapy knows one system's families in one byte order
        begin, first = 4, inet.IP if 2 in frame[:4] else inet6.IPv6
    try:
        layer = first(frame[begin:])
    except Exception:  # scapy's own failure says nothing of ours
        return found
    while layer.name != "NoPayload":
        if isinstance(layer, inet.IPerror | inet6.IPerror6):
            break
        if isinstance(layer, inet.IP | inet6.IPv6):
            at = frame.find(layer.original, at)
            if isinstance(layer, inet.IP):
                found.append(_four(layer, wire_length - at))
            else:
                given, layer = layer.plen, _measured(layer)
                found.append(_six(layer, given, wire_length - at))
            wire_length = min(wire_length, at + max(found[-1].lengths))  # no packet ends after the one around it
        layer = _inside(layer)
    return found


def _inside(layer: Any) -> Any:
    """The next layer; of a tunnel over UDP by its destination port, while scapy goes by the source port first."""
    if isinstance(layer, inet.UDP) and layer.dport in _TUNNELS:
        content = bytearray(layer.original[8:])
        if layer.dport in VXLAN_PORTS and content:
            content[0] &= 0x08  # RFC 7348, section 5: the others are ignored, and no other format's
        with contextlib.suppress(struct.error):  # too short for it
            return _TUNNELS[layer.dport](bytes(content))
    return layer.payload


def _ports(layer: Any) -> tuple[int, int] | None:
    return (layer.sport, layer.dport) if isinstance(layer, _PORTED) else None


def _address(text: str) -> tuple[int, int]:
    return tuple(Address.parse(text))  # type: ignore[return-value]


def _four(layer: Any, rest: int) -> Named:
    ends = (*_address(layer.src), *_address(layer.dst))
    ports = _ports(layer.payload) if layer.frag == 0 else (0, 0)  # scapy reads a header where there is none
    return Named(ends, ports, layer.proto, [layer.len] if layer.len else range(20, max(rest, 20) + 1))


def _measured(layer: Any) -> Any:
    """An IPv6 packet without a length as one that ends where its frame does: scapy finds nothing in it otherwise."""
    size, after = len(layer.original) - 40, layer.payload
    options = after.options if isinstance(after, inet6.IPv6ExtHdrHopByHop) else ()
    if layer.plen or size > 0xFFFF or any(isinstance(option, inet6.Jumbo) for option in options):
        return layer
    return inet6.IPv6(layer.original[:4] + size.to_bytes(2) + layer.original[6:])


def _six(layer: Any, given: int, rest: int) -> Named:
    protocol, after = layer.nh, layer.payload
    lengths = [40 + given] if given else [*range(40, max(rest, 40) + 1)]
    known = True
    while isinstance(after, _CHAIN):
        # Scapy counts whole addresses, so it is lost behind half of one.
        known &= not (isinstance(after, inet6.IPv6ExtHdrRouting) and (after.len or 0) % 2)
        if given == 0 and isinstance(after, inet6.IPv6ExtHdrHopByHop):
            lengths += [40 + option.jumboplen for option in after.options if isinstance(option, inet6.Jumbo)]
        protocol, after = after.nh, after.payload
    return Named((*_address(layer.src), *_address(layer.dst)), _ports(after) if known else None, protocol, lengths)
