"""flowmap replay: which connections a capture holds, and when each began and ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli import command
from tests.support.capture_files import Row, pcap
from tests.support.timed_rows import EPOCH, tcp, udp

CAPTURES = Path(__file__).parents[2] / "data" / "captures"


def seconds(moment: str | None) -> float | None:
    """After the first frame."""
    return None if moment is None else round(datetime.fromisoformat(moment).timestamp() - EPOCH, 3)


def flows_of(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> list[tuple[Any, ...]]:
    """Client's and server's port, bytes and packets of both, beginning and end."""
    command.main(["replay", str(path), "-o", "json", *words])
    flows = json.loads(capsys.readouterr().out)["flows"]
    names = ("transmitBytes", "transmitPackets", "receiveBytes", "receivePackets")
    return sorted(
        (
            flow["client"]["port"],
            flow["server"]["port"],
            *(flow[name] for name in names),
            seconds(flow["startedAt"]),
            seconds(flow["endedAt"]),
        )
        for flow in flows
    )


@pytest.mark.parametrize(
    ("name", "flows"),
    [
        ("syn-again-same-isn", [(40000, 80, 210, 4, 80, 2, 0.0, None)]),
        ("synack-other-isn", [(40000, 80, 120, 3, 80, 2, 0.0, None)]),
        ("rst-before-syn", [(1988, 2246, 40, 1, 40, 1, 0.0, 0.0)]),
        ("half-closed", [(40000, 80, 160, 4, 10_480, 12, 0.0, 1.0)]),  # the first FIN is the end
        ("silent-end-in-a-gap", [(5000, 53, 28, 1, 0, 0, 0.0, 30.0), (5001, 53, 28, 1, 0, 0, 86_400.0, 86_430.0)]),
    ],
)
def test_connections(capsys: pytest.CaptureFixture[str], name: str, flows: list[tuple[Any, ...]]) -> None:
    assert flows_of(capsys, CAPTURES / f"{name}.pcap") == flows


DAY = 86_400.0


@pytest.mark.parametrize("answers", [[], ["catalog"]])
@pytest.mark.parametrize(
    ("frames", "until", "ends"),
    [
        ([udp(0, 5000, 53)], None, [30]),  # nothing after it
        ([udp(0, 5000, 53)], 29, [None]),
        ([udp(0, 5000, 53)], 31, [30]),
        ([udp(0, 5000, 53), udp(1, 53, 5000)], None, [121]),
        ([udp(0, 5000, 53), udp(29.9, 5000, 53)], None, [59.9]),
        ([udp(0, 5000, 53), udp(31, 5000, 53)], None, [30, 61]),  # two flows
        ([udp(0, 5000, 53), udp(20, 5001, 53, 2), udp(31, 5000, 53)], None, [30, 50, 61]),
        ([udp(0, 5000, 53), udp(40, 5001, 53, 2)], None, [30, 70]),
        ([udp(0, 5000, 53), udp(DAY, 5001, 53, 2)], None, [30, DAY + 30]),  # a gap
        ([udp(0, 5000, 53), udp(DAY, 5001, 53, 2)], 29, [None]),
        ([udp(0, 5000, 53), udp(DAY, 5001, 53, 2)], 31, [30]),
        ([udp(0, 5000, 53), udp(DAY, 5001, 53, 2)], DAY - 1, [30]),
        ([udp(0, 5000, 53), udp(DAY, 5001, 53, 2)], DAY + 31, [30, DAY + 30]),
        ([udp(0, 5000, 53), udp(DAY, 5000, 53)], None, [30, DAY + 30]),  # a gap, and the same endpoints after it
        ([tcp(0, 40000, 80, 2)], None, [120]),  # a SYN that nobody answered
        ([tcp(0, 40000, 80, 2), tcp(1, 80, 40000, 18)], None, [None]),  # established: open, as far as is known
        ([tcp(0, 40000, 80, 2), tcp(1, 80, 40000, 18)], 6 * DAY, [5 * DAY + 1]),
        ([tcp(0, 40000, 80, 2), tcp(1, 80, 40000, 4), tcp(60, 40001, 80, 2)], None, [1, 180]),  # the RST, and no later
        ([tcp(0, 40000, 80, 2), tcp(3, 80, 40000, 17)], None, [3]),
    ],
)
def test_a_flow_that_falls_silent_ends_at_its_time_out(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    frames: list[Row],
    until: float | None,
    ends: list[float | None],
    answers: list[str],
) -> None:
    path, catalog = tmp_path / "made.pcap", tmp_path / "catalog.json"
    path.write_bytes(pcap(frames, link_type=101))
    catalog.write_text(json.dumps({"workspace": "w", "deployments": []}))
    words = [] if until is None else ["--until", datetime.fromtimestamp(EPOCH + until, UTC).isoformat()]
    words += ["--catalog", str(catalog)] if answers else []
    assert sorted((flow[-1] for flow in flows_of(capsys, path, *words)), key=lambda end: (end is None, end)) == ends
