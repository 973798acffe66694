"""Names of frames without a packet, for users: the number, and the name that tcpdump uses."""

from __future__ import annotations

from flowmap.wire.packets.numbers import OTHER_NAMES, UNREAD_NAMES, LinkType
from flowmap.wire.packets.packets import Why

_LINKS = {
    # Common LINKTYPE_* of pcap-linktype(7) that are not decoded; names without the prefix.
    3: "AX25",
    7: "ARCNET_BSD",
    8: "SLIP",
    99: "SYMANTEC_FIREWALL",
    105: "IEEE802_11",
    119: "IEEE802_11_PRISM",
    127: "IEEE802_11_RADIOTAP",
    **{number: f"USER{number - 147}" for number in range(147, 163)},
    163: "IEEE802_11_AVS",
    165: "BACNET_MS_TP",
    166: "PPP_PPPD",
    187: "BLUETOOTH_HCI_H4",
    189: "USB_LINUX",
    195: "IEEE802_15_4_WITHFCS",
    197: "ERF",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    220: "USB_LINUX_MMAPPED",
    226: "IPNET",
    227: "CAN_SOCKETCAN",
    230: "IEEE802_15_4_NOFCS",
    231: "DBUS",
    240: "NETANALYZER",
    241: "NETANALYZER_TRANSPARENT",
    249: "USBPCAP",
    252: "WIRESHARK_UPPER_PDU",
    253: "NETLINK",
    254: "BLUETOOTH_LINUX_MONITOR",
    271: "VSOCK_MON",
    274: "ETHERNET_MPACKET",
    280: "VPP_DISPATCH",
    283: "IEEE802_15_4_TAP",
}
_LLC = {0x42: "STP", 0x7F: "ISO 8802-2", 0xE0: "IPX", 0xF0: "NetBIOS", 0xFE: "IS-IS", 0xFF: "IPX"}
_PPP = {
    0x2D: "compressed TCP",
    0x2F: "uncompressed TCP",
    0x3D: "multilink",
    0x53: "encrypted",
    0xFD: "compressed",
    0x8021: "IPCP",
    0x8057: "IPV6CP",
    0x80FD: "CCP",
    0xC021: "LCP",
    0xC023: "PAP",
    0xC025: "LQR",
    0xC223: "CHAP",
}
_CISCO, _APPLE = 0x00000C, 0x080007
_CISCO_KINDS = {0x0104: "PortFast", 0x010B: "PVST+", 0x0111: "UDLD", 0x2000: "CDP", 0x2003: "VTP", 0x2004: "DTP"}


def describe_ethertype(kind: int) -> str:
    """The ethertype with its name, as ``ARP (ethertype 0x0806)``."""
    number = f"ethertype {kind:#06x}"
    name = OTHER_NAMES.get(kind) or UNREAD_NAMES.get(kind)
    return f"{name} ({number})" if name else number


def describe_link(number: int) -> str:
    """The link type (a LINKTYPE_* value) with its name, as ``link type 1 (ETHERNET)``."""
    name = LinkType(number).name if number in _KNOWN else _LINKS.get(number)
    return f"link type {number} ({name})" if name else f"link type {number}"


def describe_llc(point: int) -> str:
    """The access point of the destination (DSAP) with its name."""
    return _named("LLC DSAP", point, 4, _LLC)


def describe_ppp(kind: int) -> str:
    """The PPP protocol number with its name."""
    return _named("PPP protocol", kind, 6, _PPP)


def describe_snap(vendor: int, kind: int) -> tuple[str, Why]:
    """The numbers of vendor (OUI) and protocol with their name, and why the frame is not decoded."""
    known = vendor in (_CISCO, _APPLE)
    what = f"SNAP OUI {vendor:#08x} type {kind:#06x}"
    name = _CISCO_KINDS.get(kind) if vendor == _CISCO else None
    return f"{name} ({what})" if name else what, Why.NOT_IP if known else Why.UNREAD


def _named(what: str, number: int, width: int, names: dict[int, str]) -> str:
    text = f"{what} {number:#0{width}x}"
    return f"{names[number]} ({text})" if number in names else text


_KNOWN = frozenset(LinkType)
