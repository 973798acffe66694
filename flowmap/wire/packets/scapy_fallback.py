"""Odd frames: link types that the decoders here do not know, given to scapy to find the packet in them.

scapy takes hundreds of microseconds a frame: this is for files, where nothing is lost meanwhile. It only finds where
the packet is; that is then read like any other. Nothing scapy raises gets out.
"""

from __future__ import annotations

from typing import Any

from flowmap.wire.packets.cursor import Cursor
from flowmap.wire.packets.frame import decode_frame
from flowmap.wire.packets.link import unwrap
from flowmap.wire.packets.names import describe_link
from flowmap.wire.packets.numbers import LinkType
from flowmap.wire.packets.packets import Packet, Skipped, Why

LINKS = frozenset({105, 119, 127, 274})
"""Link types that scapy knows: IEEE 802.11 (plain, with Prism's and with radiotap's header) and Ethernet with a
preamble. Others of its numbers are interface types (ARPHRD_*), which mean something else in a file."""

FRAME_LIMIT = 512
"""Bytes of a frame that scapy gets to see; no header it is asked to find is deeper."""


class ScapyFallback:
    """Finds packets in odd frames; scapy is imported with the first (0.5 s)."""

    def __init__(self) -> None:
        self.tried = 0
        """Frames given to scapy."""
        self.found = 0
        """Frames it found a packet in."""
        self._scapy: Any = None

    def decode(self, frame: bytes, wire_length: int, link_type: int, *, inner: bool) -> Packet | Skipped | None:
        """As :func:`flowmap.wire.packets.frame.decode_frame`; None if scapy does not know the link type either."""
        cursor = Cursor(frame, 0, len(frame), wire_length)
        link_type = unwrap(cursor, link_type)  # without fail: it was done before
        if link_type not in LINKS:
            return None
        self.tried += 1
        where = self._find(frame[cursor.at :][:FRAME_LIMIT], link_type)
        if isinstance(where, Skipped):
            return where
        self.found += 1
        where += cursor.at
        return decode_frame(frame[where:], wire_length - where, LinkType.RAW, inner=inner)

    def _find(self, frame: bytes, link_type: int) -> int | Skipped:
        """Where in ``frame`` an IP packet begins; or why there is none."""
        conf, kinds, encrypted = self._import()
        name = describe_link(link_type)
        try:
            layer = conf.l2types[link_type](frame)
            while layer.name != "NoPayload":
                if isinstance(layer, kinds):
                    begins = bytes(layer.original)
                    return frame.find(begins) if begins else Skipped(Why.MALFORMED, "runt")
                if isinstance(layer, encrypted):
                    return Skipped(Why.UNREAD, f"{name}, encrypted")
                layer = layer.payload
        except Exception:  # a dissector of hundreds, on bytes from anywhere: whatever it raises, there is no packet
            return Skipped(Why.UNREAD, f"{name}, which scapy cannot read")
        return Skipped(Why.NOT_IP, f"{name} without IP")

    def _import(self) -> Any:
        self._scapy = self._scapy or _import_scapy()
        return self._scapy


def _import_scapy() -> tuple[Any, tuple[Any, ...], Any]:
    from scapy.config import conf
    from scapy.layers import dot11, inet, inet6, l2  # noqa: F401  each of these registers its layers

    return conf, (inet.IP, inet6.IPv6), dot11.Dot11Encrypted
