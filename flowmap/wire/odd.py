"""Odd frames: link types and ethertypes that the decoders here do not know, given to scapy to find the packet in them.

scapy takes hundreds of microseconds a frame: this is for files, where nothing is lost meanwhile. It only finds where
the packet is; that is then read like any other. Nothing scapy raises gets out.
"""

from __future__ import annotations

from typing import Any

from flowmap.wire.frame import decode_frame
from flowmap.wire.frame_numbers import LinkType
from flowmap.wire.packets import Packet, Skipped

ODD = frozenset({"link", "ethertype", "llc", "ppp", "mpls"})
"""Reasons of frames without a packet that scapy may know better."""

KNOWN_LINKS = frozenset(LinkType)
"""Link types that need no scapy."""

FRAME_LIMIT = 512
"""Bytes of a frame that scapy gets to see; no header it is asked to find is deeper."""


class OddFrames:
    """Finds packets in odd frames; scapy is imported with the first (0.5 s)."""

    def __init__(self) -> None:
        self.tried = 0
        """Frames given to scapy."""
        self.found = 0
        """Frames it found a packet in."""
        self._scapy: Any = None

    def knows(self, link_type: int) -> bool:
        """Whether anybody here can read frames of that link type."""
        return link_type in KNOWN_LINKS or link_type in self._import()[0].l2types

    def decode(self, frame: bytes, wire_length: int, link_type: int, *, inner: bool) -> Packet | Skipped | None:
        """As :func:`flowmap.wire.frame.decode_frame`; None if there is no packet."""
        self.tried += 1
        where = self._find(frame[:FRAME_LIMIT], link_type)
        if where is None:
            return None
        self.found += 1
        return decode_frame(frame[where:], wire_length - where, LinkType.RAW, inner=inner)

    def _find(self, frame: bytes, link_type: int) -> int | None:
        """Where in ``frame`` an IP packet begins."""
        conf, kinds = self._import()
        if link_type not in conf.l2types:
            return None
        try:
            layer = conf.l2types[link_type](frame)
            while layer.name != "NoPayload":
                if isinstance(layer, kinds):
                    begins = bytes(layer.original)
                    return frame.find(begins) if begins else None
                layer = layer.payload
        except Exception:  # a dissector of hundreds, on bytes from anywhere: whatever it raises, there is no packet
            return None
        return None

    def _import(self) -> Any:
        self._scapy = self._scapy or _import_scapy()
        return self._scapy


def _import_scapy() -> tuple[Any, tuple[Any, ...]]:
    from scapy.config import conf
    from scapy.contrib import mpls  # noqa: F401  each of these registers its layers
    from scapy.layers import dot11, inet, inet6, l2, ppp  # noqa: F401

    return conf, (inet.IP, inet6.IPv6)
