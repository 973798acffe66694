"""The addresses of this host, as the kernel lists them in /proc."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

_LOCAL = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")


def own_addresses(proc: Path = Path("/proc/self/net")) -> frozenset[str]:
    """Every address of an interface in this network namespace, without those of loopback; empty if unreadable."""
    found = set(_LOCAL.findall(_read(proc / "fib_trie")))
    for line in _read(proc / "if_inet6").splitlines():
        digits = line.split(" ", 1)[0]
        if re.fullmatch(r"[0-9a-f]{32}", digits):
            found.add(str(ipaddress.IPv6Address(int(digits, 16))))
    return frozenset(text for text in found if not _is_special(text))


def _is_special(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return address.is_loopback or address.is_link_local


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
