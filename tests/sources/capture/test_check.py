"""Findings about the interfaces that are to be captured."""

from __future__ import annotations

import pytest

from flowmap.sources.capture import check as capture_check
from flowmap.sources.capture.interfaces import Interface

ROWS = [
    ("all", [], {"lo": True, "eth0": False}, "ok", "lo", ""),
    ("named", ["b", "a"], {"a": True, "b": True}, "ok", "a, b", ""),
    ("one-missing", ["a", "b"], {"a": True}, "degraded", "missing: b", "`ip link` lists the interfaces"),
    ("one-down", ["a", "b"], {"a": True, "b": False}, "degraded", "down: b", "ip link set b up"),
    ("missing", ["a", "b"], {}, "failed", "missing: a, b", "`ip link` lists the interfaces"),
    ("down", ["b", "c"], {"b": False, "c": False}, "failed", "down: b, c", "ip link set b up; ip link set c up"),
    (
        "neither",
        ["a", "b", "c"],
        {"c": False},
        "failed",
        "missing: a, b; down: c",
        "`ip link` lists the interfaces; ip link set c up",
    ),
    ("all-down", [], {"lo": False}, "failed", "down: lo", "ip link set lo up"),
    ("none-at-all", [], {}, "failed", "no interface", "`ip link` lists the interfaces"),
]


@pytest.mark.parametrize(
    ("named", "there", "level", "message", "remedy"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_interfaces(
    monkeypatch: pytest.MonkeyPatch, named: list[str], there: dict[str, bool], level: str, message: str, remedy: str
) -> None:
    found = {name: Interface(name, number, up) for number, (name, up) in enumerate(there.items())}
    monkeypatch.setattr(capture_check, "read_interfaces", lambda names: found)
    (finding,) = capture_check.interface_findings(named)
    assert (finding.level, finding.message) == (level, message)
    assert finding.remedy == (remedy and f"{remedy}; capture starts as soon as they are up")
