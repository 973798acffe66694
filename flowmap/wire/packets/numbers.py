"""Constants of link layers, frames and IP headers for the frame decoders."""

from __future__ import annotations

from enum import IntEnum


class LinkType(IntEnum):
    """The first header of a capture's frames (LINKTYPE_* of pcap-linktype(7))."""

    NULL = 0
    """BSD loopback: an address family of four bytes, in the byte order of the capturing host."""
    ETHERNET = 1
    TOKEN_RING = 6
    PPP = 9
    FDDI = 10
    RAW_DLT = 12
    """Raw IP by the number that most systems use inside libpcap; some programs write it to files."""
    PPP_HDLC = 50
    PPP_ETHER = 51
    """PPPoE without an Ethernet header."""
    ATM_RFC1483 = 100
    RAW = 101
    C_HDLC = 104
    FRAME_RELAY = 107
    LOOP = 108
    """OpenBSD loopback: as NULL, in network byte order."""
    ENC = 109
    """OpenBSD's enc(4), for IPsec."""
    SLL = 113
    """Linux cooked, from a capture on the device "any"."""
    PFLOG = 117
    """OpenBSD's packet filter."""
    IP_OVER_FC = 122
    APPLE_IP_OVER_IEEE1394 = 138
    PPI = 192
    PPP_WITH_DIR = 204
    """PPP after a byte with the direction."""
    IPV4 = 228
    IPV6 = 229
    NFLOG = 239
    """Linux nfnetlink_log."""
    IPOIB = 242
    PKTAP = 258
    """macOS' pktap, from a capture on several interfaces."""
    SLL2 = 276


FAMILY_IPV4 = tuple(int.from_bytes((2).to_bytes(4, order)) for order in ("big", "little"))
FAMILY_IPV6 = tuple(int.from_bytes(n.to_bytes(4, order)) for n in (10, 24, 28, 30) for order in ("big", "little"))
"""AF_INET and AF_INET6 of loopback frames, in both byte orders, read as big-endian. AF_INET6 differs between Linux,
NetBSD and OpenBSD, FreeBSD, and Darwin."""

ARPHRD_NETLINK = 824
"""Device type of cooked frames with netlink messages (linux/if_arp.h)."""


class EtherType(IntEnum):
    """ETH_P_* of linux/if_ether.h."""

    IPV4 = 0x0800
    ARP = 0x0806
    BRIDGED = 0x6558
    """Transparent Ethernet bridging: a frame inside GRE or Geneve."""
    ERSPAN3 = 0x22EB
    VLAN = 0x8100
    IPV6 = 0x86DD
    MPLS = 0x8847
    MPLS_MULTICAST = 0x8848
    PPPOE_DISCOVERY = 0x8863
    PPPOE = 0x8864
    SERVICE_VLAN = 0x88A8
    ERSPAN = 0x88BE
    SERVICE_INSTANCE = 0x88E7
    """IEEE 802.1ah: a whole frame in a provider's backbone."""
    CISCO_METADATA = 0x8909
    VN_TAG = 0x8926
    HSR = 0x892F
    """IEC 62439-3."""
    E_TAG = 0x893F
    """IEEE 802.1BR."""
    QINQ1 = 0x9100
    """Tags older than IEEE 802.1ad."""
    QINQ2 = 0x9200
    QINQ3 = 0x9300
    R_TAG = 0xF1C1
    """IEEE 802.1CB."""


VLAN_TAGS = (EtherType.VLAN, EtherType.SERVICE_VLAN, EtherType.QINQ1, EtherType.QINQ2, EtherType.QINQ3)

STEPPED_OVER: dict[int, tuple[int, int]] = {
    **dict.fromkeys(VLAN_TAGS, (4, 2)),
    EtherType.SERVICE_INSTANCE: (18, 16),
    EtherType.VN_TAG: (6, 4),
    EtherType.HSR: (6, 4),
    EtherType.E_TAG: (8, 6),
    EtherType.R_TAG: (6, 4),
}
"""Skipped headers before IP, by ethertype: size after the ethertype, and the offset of the next ethertype in it."""

OTHER_NAMES: dict[int, str] = {
    0x0806: "ARP",
    0x0842: "Wake-on-LAN",
    0x2000: "CDP",
    0x22F0: "AVTP",
    0x6002: "DEC MOP",
    0x6003: "DECnet",
    0x8035: "RARP",
    0x809B: "AppleTalk",
    0x80F3: "AppleTalk ARP",
    0x8137: "IPX",
    0x8808: "Ethernet flow control",
    0x8809: "LACP",
    0x8863: "PPPoE discovery",
    0x887B: "HomePlug",
    0x888E: "EAPOL",
    0x8892: "PROFINET",
    0x8899: "Realtek RRCP",
    0x88A4: "EtherCAT",
    0x88B8: "GOOSE",
    0x88BA: "IEC 61850 sampled values",
    0x88CC: "LLDP",
    0x88E1: "HomePlug",
    0x88F5: "MVRP",
    0x88F7: "PTP",
    0x8902: "CFM",
    0x8906: "FCoE",
    0x8914: "FIP",
    0x9000: "loopback test",
}
"""Ethertypes that never precede an IP packet, and the names under which their frames are counted."""

UNREAD_NAMES = {
    0x22F3: "TRILL",
    0x876B: "compressed TCP/IP",
    0x88E5: "MACsec",
    0x8903: "FabricPath",
    0x894F: "NSH",
}
"""Ethertypes that may precede IP and are not decoded."""

LARGEST_LENGTH, LEAST_ETHERTYPE = 1500, 0x0600
"""The number in an Ethernet header is a length, followed by LLC, up to the first, and an ethertype from the second on
(IEEE 802.3, 3.2.6)."""


class Protocol(IntEnum):
    """IANA protocol numbers that the decoders distinguish."""

    HOP_BY_HOP = 0
    IPV4 = 4
    TCP = 6
    UDP = 17
    DCCP = 33
    IPV6 = 41
    ROUTING = 43
    FRAGMENT = 44
    GRE = 47
    AUTHENTICATION = 51
    NONE = 59
    DESTINATION = 60
    SCTP = 132
    UDPLITE = 136


PORTS_NEED = 4
"""Bytes of a transport header with both ports."""

HEADER_NEEDS: dict[int, int] = {
    Protocol.TCP: 14,
    Protocol.UDP: 4,
    Protocol.DCCP: 4,
    Protocol.SCTP: 4,
    Protocol.UDPLITE: 4,
}
"""Bytes of a transport header that are needed: both ports, and TCP's flags."""

SYN, RST, ACK = 0x02, 0x04, 0x10
"""Bits of TCP's flags."""

EXTENSIONS = (Protocol.HOP_BY_HOP, Protocol.ROUTING, Protocol.FRAGMENT, Protocol.AUTHENTICATION, Protocol.DESTINATION)
"""IPv6 extension headers that are skipped (RFC 8200, section 4), as in the kernel (ipv6_ext_hdr). Mobility, HIP and
Shim6 have the same form (RFC 7045), but their messages have no payload, and conntrack treats them as protocols."""

IP_TUNNELS = (Protocol.IPV4, Protocol.IPV6, Protocol.GRE)

VXLAN_PORTS = (4789, 8472)
"""The port of IANA, and the older one of Linux, which flannel still uses."""

GENEVE_PORT = 6081
