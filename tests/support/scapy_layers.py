"""scapy, with what it does not know of layers on layers told to it."""

from __future__ import annotations

import logging

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.config import conf  # noqa: E402
from scapy.contrib import geneve  # noqa: E402
from scapy.contrib.mpls import MPLS  # noqa: E402
from scapy.layers import inet, inet6, ipsec, l2, ppp, sctp, vxlan  # noqa: E402
from scapy.packet import Raw, bind_layers, raw, split_layers  # noqa: E402

__all__ = ["MPLS", "Raw", "conf", "geneve", "inet", "inet6", "ipsec", "l2", "ppp", "raw", "sctp", "vxlan"]

conf.route6.resync = conf.route.resync = lambda: None  # packets are made, not sent

for kind in (0x9100, 0x9200, 0x9300):
    for below, field in ((l2.Ether, "type"), (l2.Dot1Q, "type"), (l2.Dot1AD, "type"), (l2.SNAP, "code")):
        bind_layers(below, l2.Dot1Q, {field: kind})
    for below in (l2.CookedLinux, l2.CookedLinuxV2, l2.GRE):
        bind_layers(below, l2.Dot1Q, {"proto": kind})
split_layers(ipsec.AH, inet.IP, nh=0)  # a slip of scapy's
_HEADERS = {0: inet6.IPv6ExtHdrHopByHop, 43: inet6.IPv6ExtHdrRouting, 44: inet6.IPv6ExtHdrFragment, 51: ipsec.AH}
_HEADERS[60] = inet6.IPv6ExtHdrDestOpt
_ABOVE = {4: inet.IP, 6: inet.TCP, 17: inet.UDP, 41: inet6.IPv6, 47: l2.GRE, 132: sctp.SCTP}
for number, above in (_HEADERS | _ABOVE).items():
    for below in _HEADERS.values():
        bind_layers(below, above, nh=number)
# scapy does not know all of these itself.
