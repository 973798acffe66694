"""Entries of ``export.peers``."""

from __future__ import annotations

import pytest

from flowmap.model.peer_entry import EntryKind, PeerEntry, read_entry

PATTERN, HOST, FILE = EntryKind
ENTRIES = [
    ("10.100.2.0/24:9092", PeerEntry(PATTERN, "10.100.2.0/24:9092")),
    ("10.0.0.9:9092", PeerEntry(PATTERN, "10.0.0.9:9092")),
    ("10.0.0.9", PeerEntry(PATTERN, "10.0.0.9")),
    ("2001:db8::1", PeerEntry(PATTERN, "2001:db8::1")),
    ("[2001:db8::1]:9092", PeerEntry(PATTERN, "[2001:db8::1]:9092")),
    ("dead::beef", PeerEntry(PATTERN, "dead::beef")),
    ("tcp/10.0.0.9:53", PeerEntry(PATTERN, "tcp/10.0.0.9:53")),
    ("kafka", PeerEntry(HOST, "kafka")),
    ("Kafka-1.Example:9092", PeerEntry(HOST, "kafka-1.example", 9092)),
    ("1.2.3.4.in-addr.arpa.", PeerEntry(HOST, "1.2.3.4.in-addr.arpa.")),
    ("kafka:0", PeerEntry(PATTERN, "kafka:0")),  # refused as a pattern
    ("kafka:99999", PeerEntry(PATTERN, "kafka:99999")),
    ("file_sd:/etc/a b/*.json", PeerEntry(FILE, "/etc/a b/*.json")),
    ("file_sd:", PeerEntry(FILE, "")),
]


@pytest.mark.parametrize(("text", "expected"), ENTRIES)
def test_entries(text: str, expected: PeerEntry) -> None:
    assert read_entry(text) == expected
