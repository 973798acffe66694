"""Fixtures of the conntrack source."""

from __future__ import annotations

import pytest

from flowmap.sources.conntrack import check as conntrack_check
from flowmap.sources.conntrack import dump as conntrack_dump
from flowmap.sources.conntrack import source as conntrack
from flowmap.sources.conntrack.check import ConntrackSysctls
from tests.support.conntrack_kernel import Kernel

GOOD = ConntrackSysctls(accounting=1, events=1, entries=10, limit=1000)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(conntrack, "NetlinkSocket", made.event_socket)
    monkeypatch.setattr(conntrack_dump, "NetlinkSocket", made.dump_socket)
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: GOOD)
    return made
