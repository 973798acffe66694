"""What the capture source can see here: for ``flowmap check``."""

from __future__ import annotations

from collections.abc import Sequence

from flowmap.collect.base import Finding
from flowmap.collect.interfaces import read_interfaces
from flowmap.collect.packet_ring import PacketRing
from flowmap.collect.pcap_filter import compile_filter
from flowmap.errors import ConfigError, SourceError


def findings(*, interfaces: Sequence[str], ring: int, pcap: str) -> list[Finding]:
    """One finding for each thing looked at, the essential one first."""
    try:
        made = PacketRing(ring)
    except SourceError as error:
        return [Finding("capture.ring", "failed", str(error), error.remedy)]
    made.close()
    found = [Finding("capture.ring", "ok", f"{made.size} bytes, as asked for within a block of {made.block}")]
    return [*found, *_filter(pcap), *_interfaces(interfaces)]


def _filter(pcap: str) -> list[Finding]:
    if not pcap:
        return []
    try:
        ethernet, _ = compile_filter(pcap)
    except ConfigError as error:
        return [Finding("capture.filter", "failed", str(error), "mend the filter, or leave it out")]
    return [Finding("capture.filter", "ok", f"{len(ethernet)} instructions")]


def _interfaces(names: Sequence[str]) -> list[Finding]:
    found = read_interfaces(names)
    missing = [name for name in names if name not in found]
    down = [name for name, interface in found.items() if not interface.up]
    up = ", ".join(name for name, interface in found.items() if interface.up)
    if not up:
        return [Finding("capture.interfaces", "failed", "none of them is there and up", "ip link set … up")]
    if not missing and (not down or not names):
        return [Finding("capture.interfaces", "ok", up)]
    message = "; ".join(
        f"{what}: {', '.join(which)}" for what, which in (("not there", missing), ("down", down)) if which
    )
    return [Finding("capture.interfaces", "degraded", message, "ip link; they are listened to once they come")]
