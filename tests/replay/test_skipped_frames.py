"""Lines on skipped frames: one for each reason, the most frequent kinds first, the rest together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flowmap.replay import skipped_frames
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.capture_steps import CaptureSteps
from flowmap.replay.skipped_frames import KINDS
from flowmap.sources.packets.flows import PacketFlows
from tests.support.capture_files import pcap


@pytest.fixture
def steps(tmp_path: Path) -> CaptureSteps:
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap([]))
    with CaptureFile(path) as file:
        return CaptureSteps(file, PacketFlows(10, timed=True))


def test_nothing_to_report(steps: CaptureSteps) -> None:
    assert list(skipped_frames.lines(steps)) == []
    assert skipped_frames.not_ip(steps) == ""


def test_reasons_and_kinds(steps: CaptureSteps) -> None:
    steps.frames = 2000
    steps.malformed.update({"runt": 1500, "wire_length": 2})
    steps.unread.update({"MACsec (ethertype 0x88e5)": 3})
    steps.other.update({"ARP (ethertype 0x0806)": 1200, "LLDP (ethertype 0x88cc)": 4})
    runt, wire, macsec = skipped_frames.lines(steps)
    assert runt == "1,500 of 2,000 frames are too short for their headers, and do not count"
    assert wire.startswith("2 of 2,000 frames are shorter than their IP packet, although not cut according to the file")
    assert wire.endswith("capture with tcpdump or dumpcap")
    assert macsec == "3 frames of MACsec (ethertype 0x88e5) cannot be decoded; IP packets in them do not count"
    assert skipped_frames.not_ip(steps) == "1,200 ARP (ethertype 0x0806), 4 LLDP (ethertype 0x88cc)"


@pytest.mark.parametrize(("kinds", "last"), [(KINDS, "kind 1"), (KINDS + 3, "6 3 other kinds")])
def test_rare_kinds_share_a_line(steps: CaptureSteps, kinds: int, last: str) -> None:
    steps.other = Counter({f"kind {n}": n for n in range(1, kinds + 1)})
    assert skipped_frames.not_ip(steps).rpartition(", ")[2].endswith(last)
    assert skipped_frames.not_ip(steps).count(",") == min(kinds, KINDS + 1) - 1


@pytest.mark.parametrize(("looked", "copies", "reported"), [(1000, 10, False), (1000, 11, True), (0, 0, False)])
def test_copies_above_one_percent(steps: CaptureSteps, looked: int, copies: int, reported: bool) -> None:
    steps.copies.looked, steps.copies.copies = looked, copies
    lines = list(skipped_frames.lines(steps))
    assert [line.split(" ")[0] for line in lines] == [str(copies)] * reported
