"""What scapy says a frame is: the flow and length of every IP packet in it, outermost first."""

from __future__ import annotations

from typing import Any, NamedTuple

from flowmap.flows.address import Address
from flowmap.wire.frame_numbers import LinkType
from tests.wire.scapy_layers import MPLS, conf, inet, inet6, ipsec, l2, ppp, sctp

_CHAIN = (
    *(inet6.IPv6ExtHdrHopByHop, inet6.IPv6ExtHdrRouting, inet6.IPv6ExtHdrFragment, inet6.IPv6ExtHdrDestOpt),
    *(ipsec.AH,),
)
_BETWEEN = (l2.Ether, l2.Dot1Q, l2.Dot1AD, l2.GRE, l2.Dot3, l2.LLC, l2.SNAP, MPLS, ppp.PPPoE, ppp.PPP)
_PORTED = (inet.TCP, inet.UDP, sctp.SCTP)


class Named(NamedTuple):
    """An IP packet."""

    ends: tuple[int, int, int, int]
    ports: tuple[int, int] | None
    """None if scapy found no transport header that it knows."""
    protocol: int
    lengths: tuple[int, ...]
    """Those the packet may have; several only where its own length field is 0."""


def names(frame: bytes, wire_length: int, link_type: int) -> list[Named]:
    """The packets that are inside each other. Empty if there is none, or scapy fails."""
    found: list[Named] = []
    begin, first = 0, conf.l2types[link_type]
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
            rest = wire_length - (len(frame) - len(layer.original))
            found.append((_four if isinstance(layer, inet.IP) else _six)(layer, rest))
        layer = layer.payload
    return found


def _ports(layer: Any) -> tuple[int, int] | None:
    return (layer.sport, layer.dport) if isinstance(layer, _PORTED) else None


def _address(text: str) -> tuple[int, int]:
    return tuple(Address.parse(text))  # type: ignore[return-value]


def _four(layer: Any, rest: int) -> Named:
    ends = (*_address(layer.src), *_address(layer.dst))
    ports = _ports(layer.payload) if layer.frag == 0 else (0, 0)  # scapy reads a header where there is none
    return Named(ends, ports, layer.proto, (layer.len or rest,))


def _six(layer: Any, rest: int) -> Named:
    protocol, after = layer.nh, layer.payload
    lengths = [40 + layer.plen] if layer.plen else [40, rest]
    while isinstance(after, _CHAIN):
        if layer.plen == 0 and isinstance(after, inet6.IPv6ExtHdrHopByHop):
            lengths += [40 + option.jumboplen for option in after.options if isinstance(option, inet6.Jumbo)]
        protocol, after = after.nh, after.payload
    return Named((*_address(layer.src), *_address(layer.dst)), _ports(after), protocol, tuple(lengths))
