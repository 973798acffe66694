"""Compiles filters in tcpdump's language (pcap-filter(7)) with libpcap, through scapy."""

from __future__ import annotations

import ctypes
from functools import partial

from flowmap.errors import ConfigError
from flowmap.system.detached import call_within
from flowmap.wire.packets import bpf
from flowmap.wire.packets.numbers import LinkType

ROOM = bpf.LIMIT - 512
"""Largest number of instructions for such a filter; the others are for interfaces."""

SECONDS = 30.0
"""Longest wait for libpcap. The largest filter takes 5 s, and libpcap looks up host names in it."""


def compile_filter(text: str) -> tuple[bpf.Program, bpf.Program]:
    """The program for frames with an Ethernet header, and the one for packets without a link layer.

    A filter on the link layer drops all packets without one. ConfigError if libpcap is missing or rejects the filter,
    or if the result has too many instructions for the kernel.
    """
    ethernet = _compile(text, LinkType.ETHERNET)
    if ethernet is None:
        raise ConfigError(f"collect.capture.filter: libpcap rejects {text!r}; see pcap-filter(7)")
    programs = ethernet, _compile(text, LinkType.RAW_DLT) or [bpf.Instruction(6, 0, 0, 0)]
    length = sum(map(len, programs))
    if length > ROOM:
        raise ConfigError(f"collect.capture.filter: compiles to {length} instructions; the limit is {ROOM}")
    return programs


def _compile(text: str, link_type: LinkType) -> bpf.Program | None:
    try:
        from scapy.arch.common import compile_filter as compile_with_libpcap
        from scapy.error import Scapy_Exception
    except (ImportError, OSError) as error:
        raise ConfigError("collect.capture.filter: needs libpcap (apt install libpcap0.8)") from error
    try:
        made = call_within(SECONDS, partial(compile_with_libpcap, text, linktype=int(link_type)))
    except ImportError as error:
        raise ConfigError("collect.capture.filter: needs libpcap (apt install libpcap0.8)") from error
    except TimeoutError as error:
        raise ConfigError(
            f"collect.capture.filter: libpcap did not compile {text[:100]!r} within {SECONDS:g} s; write addresses"
            " instead of host names, which it looks up"
        ) from error
    except Scapy_Exception:
        return None
    return bpf.decode(ctypes.string_at(made.bf_insns, 8 * made.bf_len))
