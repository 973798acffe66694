"""Filters in tcpdump's language: what libpcap rejects, and its limits."""

from __future__ import annotations

import threading

import pytest

from flowmap.errors import ConfigError
from flowmap.sources.capture import filter as pcap_filter
from flowmap.sources.capture.filter import compile_filter


@pytest.mark.parametrize("text", ["tcp port", "no such thing"])
def test_a_filter_that_libpcap_does_not_understand(text: str) -> None:
    with pytest.raises(ConfigError, match="collect.capture.filter"):
        compile_filter(text)


def test_a_name_in_a_filter_that_no_server_answers_about(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("scapy.arch.common.compile_filter", lambda *_, **__: over.wait())
    monkeypatch.setattr(pcap_filter, "SECONDS", 0.1)
    try:
        with pytest.raises(ConfigError, match=r"collect\.capture\.filter: libpcap did not compile 'host a'"):
            compile_filter("host a")
    finally:
        over.set()


def test_a_filter_with_too_many_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap_filter, "ROOM", 100)  # libpcap takes seconds for the real limit
    with pytest.raises(ConfigError, match=r"filter: compiles to \d{3} instructions; the limit is 100"):
        compile_filter(" or ".join(f"port {port}" for port in range(1, 30)))
