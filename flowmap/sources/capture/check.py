"""Checks of the capture source, for ``flowmap check``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from flowmap.errors import ConfigError, SourceError
from flowmap.sources.base import Finding
from flowmap.sources.capture.filter import compile_filter
from flowmap.sources.capture.interfaces import Interface, read_interfaces
from flowmap.sources.capture.ring import PacketRing
from flowmap.sources.sockets.kernel import ephemeral_ports


def findings(*, interfaces: Sequence[str], ring: int, pcap: str) -> list[Finding]:
    """One finding for each check, the essential one first."""
    try:
        made = PacketRing(ring)
    except SourceError as error:
        return [Finding("capture.ring", "failed", str(error), error.remedy)]
    made.close()
    found = [Finding("capture.ring", "ok", f"{made.size} bytes, the configured size in blocks of {made.block}")]
    return [*found, *_filter(pcap), *ephemeral_ports().findings("capture"), *interface_findings(interfaces)]


def _filter(pcap: str) -> list[Finding]:
    if not pcap:
        return []
    try:
        ethernet, _ = compile_filter(pcap)
    except ConfigError as error:
        return [Finding("capture.filter", "failed", str(error), "correct the filter, or remove it")]
    return [Finding("capture.filter", "ok", f"{len(ethernet)} instructions")]


def interface_findings(names: Sequence[str]) -> list[Finding]:
    """One finding about the interfaces to capture on; all if none is named."""
    try:
        found = read_interfaces(names)
    except SourceError as error:
        return [Finding("capture.interfaces", "failed", str(error), error.remedy)]
    missing = [name for name in names if name not in found]
    down = [name for name, interface in found.items() if not interface.up]
    up = ", ".join(_shown(name, interface) for name, interface in found.items() if interface.up)
    if up and not missing and (not down or not names):
        return [Finding("capture.interfaces", "ok", up)]
    message = "; ".join(
        f"{what}: {', '.join(which)}" for what, which in (("missing", missing), ("down", down)) if which
    )
    remedies = [] if found and not missing else ["`ip link` lists the interfaces"]
    remedies += [f"ip link set {_word(name)} up" for name in down]
    remedy = f"{'; '.join(remedies)}; capture starts as soon as they are up"
    return [Finding("capture.interfaces", "degraded" if up else "failed", message or "no interface", remedy)]


def _shown(name: str, interface: Interface) -> str:
    return name if name == interface.name else f"{name} ({interface.name})"


def _word(name: str) -> str:
    """The name as a word of bash, which has the same escapes."""
    return f"$'{name}'" if "\\" in name else shlex.quote(name)
