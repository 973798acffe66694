"""What is found about a host's conntrack settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.errors import SourceDenied
from flowmap.sources.base import Finding
from flowmap.sources.conntrack import check as conntrack_check
from flowmap.sources.conntrack.check import (
    Census,
    ConntrackProbe,
    ConntrackSysctls,
    findings,
    notes,
    offload_finding,
    read_entries,
    read_settings,
)
from flowmap.system import proc
from flowmap.system.proc import Unknown
from flowmap.wire.netlink.conntrack import TableSize

GOOD = ConntrackSysctls(accounting=1, events=1, entries=10, limit=1000)


@pytest.mark.parametrize(
    ("census", "level", "words"),
    [
        (Census(entries=7), "ok", "none of 7 connections"),
        (Census(entries=7, software=2), "degraded", "2 of 7 connections are offloaded to a flowtable: their byte"),
        (
            Census(entries=7, software=2, hardware=3),
            "degraded",
            "5 of 7 connections are offloaded to a flowtable, 3 of",
        ),
    ],
)
def test_offload_finding(census: Census, level: str, words: str) -> None:
    finding = offload_finding(census)
    assert (finding.level, finding.message[: len(words)]) == (level, words)
    assert bool(finding.remedy) == (level != "ok")


WHOLE = ConntrackProbe(asked=1000, granted=1000)


@pytest.mark.parametrize(
    "settings, probe, name, level, words",
    [
        (GOOD, WHOLE, "access", "ok", "can be read"),
        (GOOD, WHOLE, "accounting", "ok", "byte counters"),
        (ConntrackSysctls(0, 1, 10, 1000), WHOLE, "accounting", "degraded", "without bytes"),
        (ConntrackSysctls(None, 1, 10, 1000), WHOLE, "accounting", "degraded", "cannot be read"),
        (GOOD, WHOLE, "events", "ok", "the kernel reports every change"),
        (ConntrackSysctls(1, 2, 10, 1000), WHOLE, "events", "degraded", "older than flowmap"),
        (ConntrackSysctls(1, 0, 10, 1000), WHOLE, "events", "degraded", "only full reads see"),
        (ConntrackSysctls(1, None, 10, 1000), WHOLE, "events", "degraded", "cannot be read"),
        (GOOD, WHOLE, "table", "ok", "10 of 1000"),
        (ConntrackSysctls(1, 1, 0, 1000), WHOLE, "table", "degraded", "ct rule"),
        (ConntrackSysctls(1, 1, 750, 1000), WHOLE, "table", "degraded", "750 of 1000"),
        (ConntrackSysctls(1, 1, 749, 1000), WHOLE, "table", "ok", "749 of 1000"),
        (ConntrackSysctls(1, 1, None, 1000), WHOLE, "table", "degraded", "cannot be read"),
        (
            ConntrackSysctls(1, 1, 10, None, "hidden"),
            WHOLE,
            "table",
            "degraded",
            "nf_conntrack_max cannot be read: hidden",
        ),
        (ConntrackSysctls(1, 1, 10, 0), WHOLE, "table", "ok", "10 entries in use, without a limit"),
        (ConntrackSysctls(), WHOLE, "table", "degraded", "cannot be read: conntrack is not loaded"),
        (GOOD, WHOLE, "receive_buffer", "ok", "1000 bytes"),
        (GOOD, ConntrackProbe(1000, 200), "receive_buffer", "degraded", "200 of 1000 bytes"),
    ],
)
def test_findings(settings: ConntrackSysctls, probe: ConntrackProbe, name: str, level: str, words: str) -> None:
    (finding,) = [found for found in findings(settings, probe) if found.name == f"conntrack.{name}"]
    assert finding.level == level
    assert words in finding.message
    assert bool(finding.remedy) == (level != "ok")


def test_accounting_enabled_at_start() -> None:
    found = {f.name: f for f in findings(ConntrackSysctls(0, 1, 1, 9), WHOLE, enable_accounting=True)}
    assert "enabled at start" in found["conntrack.accounting"].message


def test_no_access() -> None:
    denied = ConntrackProbe(1000, error=SourceDenied("cannot join", remedy="be root"))
    assert findings(GOOD, denied) == [Finding("conntrack.access", "failed", "cannot join", "be root")]


def test_notes() -> None:
    found = findings(ConntrackSysctls(0, 1, 10, 1000), WHOLE)
    assert list(notes(found)) == ["accounting"]
    assert "sysctl" in notes(found)["accounting"]


def test_read_settings(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == ConntrackSysctls()
    for name, text in (("acct", "1\n"), ("events", "2"), ("count", "5"), ("max", "nonsense")):
        (tmp_path / f"nf_conntrack_{name}").write_text(text)
    assert read_settings(tmp_path) == ConntrackSysctls(
        1, 2, 5, None, cause=f"{tmp_path}/nf_conntrack_max holds no number"
    )


@pytest.mark.parametrize("hidden", [False, True])
def test_absent_and_hidden_table(hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the files it is asked over netlink, unless they would be visible."""
    where = tmp_path / "sys" / "net"
    where.mkdir(parents=True)
    monkeypatch.setattr(proc, "SYS", tmp_path / "sys")
    if not hidden:
        (tmp_path / "sys" / "kernel").mkdir()
    asked: list[TableSize | Unknown] = [Unknown("no permission"), TableSize(7, 100)]
    monkeypatch.setattr(conntrack_check, "read_table_size", lambda: asked.pop(0))
    if not hidden:
        assert (read_settings(where), read_entries(where)) == (ConntrackSysctls(), 0)
        assert len(asked) == 2
        return
    cause = f"{tmp_path}/sys is hidden from this process"
    assert read_settings(where) == ConntrackSysctls(cause=cause)
    assert read_settings(where) == ConntrackSysctls(None, None, 7, 100, cause)
    asked += [Unknown("no permission"), TableSize(7, 100)]
    assert read_entries(where) == Unknown(f"{cause}, and no permission")
    assert read_entries(where) == 7
