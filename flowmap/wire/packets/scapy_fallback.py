"""Finds packets in frames of uncommon link types with scapy.

scapy takes hundreds of microseconds per frame, so it is used for files, where nothing is lost meanwhile. It only finds
the offset of the packet, which is then decoded as usual. Exceptions of scapy are caught.
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
"""Link types that scapy decodes: IEEE 802.11 (plain, with the header of Prism or radiotap), Ethernet with a preamble.
Other numbers in scapy's table are interface types (ARPHRD_*), which have other meanings in a file."""

FRAME_LIMIT = 512
"""Bytes of a frame that are passed to scapy; the wanted headers are before them."""


class ScapyFallback:
    """Finds packets in frames; scapy is imported for the first one (0.5 s)."""

    def __init__(self) -> None:
        self.tried = 0
        """Frames passed to scapy."""
        self.found = 0
        """Frames with a packet."""
        self._scapy: Any = None

    def decode(self, frame: bytes, wire_length: int, link_type: int, *, inner: bool) -> Packet | Skipped | None:
        """As :func:`flowmap.wire.packets.frame.decode_frame`; None if scapy does not decode the link type either."""
        cursor = Cursor(frame, 0, len(frame), wire_length)
        link_type = unwrap(cursor, link_type)  # cannot fail: the general decoder did the same
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
        """Offset of an IP packet in ``frame``, or why there is none."""
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
        except Exception:  # a scapy dissector can raise anything for unexpected bytes
            return Skipped(Why.UNREAD, f"{name}, which scapy cannot decode")
        return Skipped(Why.NOT_IP, f"{name} without IP")

    def _import(self) -> Any:
        self._scapy = self._scapy or _import_scapy()
        return self._scapy


def _import_scapy() -> tuple[Any, tuple[Any, ...], Any]:
    from scapy.config import conf
    from scapy.layers import dot11, inet, inet6, l2  # noqa: F401  each of these registers its layers

    return conf, (inet.IP, inet6.IPv6), dot11.Dot11Encrypted
