"""Findings about the sockets source."""

from __future__ import annotations

import pytest

from flowmap.errors import SourceDenied, SourceError
from flowmap.sources.sockets.check import SocketsProbe, findings, read_probe

RUNGS = ("sockets.rung", "sockets.scope", "sockets.containers", "sockets.namespaces", "sockets.processes")
"""Findings about containers and processes; tests/sources/workloads has theirs."""

ROWS = [
    (SocketsProbe(4096, 4096, sockets=3, info_size=280), ["ok", "ok", "ok"], "3 TCP connections"),
    (SocketsProbe(4096, 4096), ["ok", "ok", "ok"], "0 TCP connections"),
    (SocketsProbe(4 << 20, 100_000, info_size=280), ["ok", "ok", "degraded"], "4194304 were requested"),
    (SocketsProbe(4 << 20, 2 << 20, info_size=280), ["ok", "ok", "ok"], "2097152 bytes"),
    (SocketsProbe(1, 1, info_size=200), ["ok", "degraded", "ok"], "off by one byte"),
    (SocketsProbe(1, 1, info_size=104), ["ok", "failed", "ok"], "counts no bytes"),
    (SocketsProbe(1, groups=SourceError("no such group")), ["failed"], "shorter than the interval"),
    (SocketsProbe(1, 1, dump=SourceDenied("no module", remedy="load it")), ["ok", "failed"], "no module"),
]


@pytest.mark.parametrize(("probe", "levels", "words"), ROWS)
def test_findings(probe: SocketsProbe, levels: list[str], words: str) -> None:
    found = [one for one in findings(probe) if one.name not in RUNGS]
    assert [finding.level for finding in found] == levels
    assert any(words in finding.message for finding in found)
    assert all(bool(finding.remedy) == (finding.level != "ok") for finding in found)


def test_looking_needs_no_permission() -> None:
    probe = read_probe(64 << 10)
    assert probe.groups is None and probe.dump is None
    assert probe.granted > 0
    assert [finding.name for finding in findings()] == [
        "sockets.destroy_events",
        "sockets.dump",
        "sockets.receive_buffer",
        *RUNGS,
    ]
