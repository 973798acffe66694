"""Numbers of link layers, frames and IP headers that the frame decoders know."""

from __future__ import annotations

from enum import IntEnum


class LinkType(IntEnum):
    """What a capture's frames begin with (LINKTYPE_* of pcap-linktype(7))."""

    NULL = 0
    """BSD loopback: an address family of four bytes, in the byte order of the host that captured."""
    ETHERNET = 1
    PPP = 9
    RAW_DLT = 12
    """Raw IP by the number most systems use inside libpcap; files of careless writers have it."""
    RAW = 101
    LOOP = 108
    """OpenBSD loopback: the same in network byte order."""
    SLL = 113
    """Linux cooked, of capture on "any" device."""
    IPV4 = 228
    IPV6 = 229
    SLL2 = 276


FAMILY_IPV4 = tuple(int.from_bytes((2).to_bytes(4, order)) for order in ("big", "little"))
FAMILY_IPV6 = tuple(int.from_bytes(n.to_bytes(4, order)) for n in (10, 24, 28, 30) for order in ("big", "little"))
"""AF_INET and AF_INET6 before loopback frames, in either byte order, read as big-endian. The latter is another number
on Linux, NetBSD and OpenBSD, FreeBSD, and Darwin."""

ARPHRD_NETLINK = 824
"""Device of cooked frames that are netlink messages (linux/if_arp.h)."""


class EtherType(IntEnum):
    """ETH_P_* of linux/if_ether.h."""

    IPV4 = 0x0800
    ARP = 0x0806
    BRIDGED = 0x6558
    """Transparent Ethernet bridging: a frame inside GRE or Geneve."""
    RARP = 0x8035
    VLAN = 0x8100
    IPV6 = 0x86DD
    SLOW = 0x8809
    MPLS = 0x8847
    MPLS_MULTICAST = 0x8848
    PPPOE_DISCOVERY = 0x8863
    PPPOE = 0x8864
    EAPOL = 0x888E
    SERVICE_VLAN = 0x88A8
    LLDP = 0x88CC
    MACSEC = 0x88E5
    PTP = 0x88F7
    QINQ1 = 0x9100
    """Tags of before IEEE 802.1ad."""
    QINQ2 = 0x9200
    QINQ3 = 0x9300


VLAN_TAGS = (EtherType.VLAN, EtherType.SERVICE_VLAN, EtherType.QINQ1, EtherType.QINQ2, EtherType.QINQ3)

OTHER_NAMES = {
    EtherType.ARP: "arp",
    EtherType.RARP: "arp",
    EtherType.SLOW: "lacp",
    EtherType.PPPOE_DISCOVERY: "pppoe",
    EtherType.EAPOL: "eapol",
    EtherType.LLDP: "lldp",
    EtherType.MACSEC: "macsec",
    EtherType.PTP: "ptp",
}
"""What frames without IP are counted as; any other ethertype is counted as ``ethertype``."""

LARGEST_LENGTH, LEAST_ETHERTYPE = 1500, 0x0600
"""In an Ethernet header a number up to the first is a length, and LLC follows; an ethertype is not less than the
second (IEEE 802.3, 3.2.6)."""


class Protocol(IntEnum):
    """IANA protocol numbers the decoders look at."""

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


HEADER_NEEDS = {Protocol.TCP: 14, Protocol.UDP: 4, Protocol.DCCP: 4, Protocol.SCTP: 4, Protocol.UDPLITE: 4}
"""Bytes of a transport header that must be there: both ports, and TCP's flags."""

SYN = 0x02
"""Among TCP's flags."""

EXTENSIONS = (Protocol.HOP_BY_HOP, Protocol.ROUTING, Protocol.FRAGMENT, Protocol.AUTHENTICATION, Protocol.DESTINATION)
"""IPv6 extension headers that are stepped over (RFC 8200, section 4), as in the kernel (ipv6_ext_hdr). Mobility, HIP
and Shim6 look like one (RFC 7045), but nothing follows their messages, and conntrack takes them for protocols."""

IP_TUNNELS = (Protocol.IPV4, Protocol.IPV6, Protocol.GRE)

VXLAN_PORTS = (4789, 8472)
"""IANA's, and the one Linux took before there was one (and flannel still does)."""

GENEVE_PORT = 6081
