"""A capture file attributed without a daemon: its bytes, its owners, and what is said about it."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest

from flowmap.attribute.questions import Question
from flowmap.config import Config
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.replay.capture import CaptureReplay
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.driver import Answerer, Reply, answer, failure

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
OWNER = Owner("ws", "ns", "id-1", "orders")
CONFIG = Config.model_validate({"control_plane": {"region": "cn-hangzhou", "workspace": "ws", "namespaces": ["ns"]}})


def named(question: Question, asked: float) -> Reply:
    return answer(question, asked, (DeploymentInfo(OWNER),), latency=0.1)


def failed(question: Question, asked: float) -> Reply:
    return failure(question, asked, "down", latency=0.1)


def replayed(path: Path, answerer: Answerer | None = None, until: float = math.inf) -> CaptureReplay:
    with contextlib.closing(CaptureFile(path)) as file:
        made = CaptureReplay(file, CONFIG, answerer, origin="test", loopback=True)
        shares = list(made.run(until))
    assert shares == sorted(shares) and all(0 <= share <= 1 for share in shares)
    return made


@pytest.mark.parametrize("name", ["http.pcap", "vlan.pcap"])
def test_without_owners_nothing_is_named_and_nothing_lost(name: str) -> None:
    made = replayed(CAPTURES / name)
    totals = made.snapshot().byte_totals()
    assert totals.attributed == totals.shared == (0, 0)
    assert sum(totals.pending) + sum(totals.unattributed) == sum(totals.observed) > 0
    assert made.findings() == []
    assert made.notes()[0].startswith(f"{made.steps.frames:,} frames, {made.steps.packets:,} packets, 2")


def test_owners_of_the_captures_time() -> None:
    made = replayed(CAPTURES / "http.pcap", named)
    snapshot = made.snapshot()
    totals = snapshot.byte_totals()
    assert snapshot.conserved() and totals.pending == (0, 0)
    assert sum(totals.attributed) + sum(totals.unattributed) == sum(totals.observed)
    named_keys = [key for key in snapshot.series_table.keys if key is not None and key.owners]
    assert sum(totals.attributed) > 0 and {owner.deployment_id for key in named_keys for owner in key.owners} == {
        "id-1"
    }


def test_answers_that_fail_leave_flows_pending() -> None:
    made = replayed(CAPTURES / "http.pcap", failed)
    assert made.snapshot().byte_totals().attributed == (0, 0) and made.snapshot().conserved()


def test_the_rest_after_a_time_is_left_out() -> None:
    whole = replayed(CAPTURES / "http.pcap")
    part = replayed(CAPTURES / "http.pcap", until=whole.steps.began)
    assert part.steps.frames < whole.steps.frames or part.notes()[0].endswith("; the rest is after --until")


def test_a_file_that_ends_early_is_said(tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes((CAPTURES / "http.pcap").read_bytes()[:-7])
    made = replayed(cut)
    (line,) = made.findings()
    assert "the file ends within a record; the part before it counts" in line
    assert not made.snapshot().sources[0].stats.up and made.snapshot().conserved()
