"""The conntrack source against scripted sockets."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from flowmap.errors import SourceDenied, SourceError
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.sources import read_pace
from flowmap.sources.base import CaughtUp, Lost, ReadFinished, ReadStarted, Step
from flowmap.sources.conntrack import check as conntrack_check
from flowmap.sources.conntrack import source as conntrack
from flowmap.sources.conntrack.check import (
    Census,
    ConntrackSysctls,
    read_census,
)
from flowmap.sources.conntrack.source import LOSS_BACKOFF, LOSS_BACKOFF_LIMIT, ConntrackSource
from flowmap.sources.netlink_socket import Received
from flowmap.wire.netlink.conntrack import CtMessage
from flowmap.wire.netlink.messages import Control, encode_message
from tests.support.conntrack_kernel import (
    INTERRUPTED,
    QUIET,
    Kernel,
    destroyed,
    done,
    entry,
    event,
    received,
)
from tests.support.conntrack_messages import DUMP, encode_entry, tcp


@pytest.fixture
def source(kernel: Kernel) -> ConntrackSource:
    made = ConntrackSource(resync=30, receive_buffer=1000, clock=kernel.clock)
    made.open()
    return made


def steps_of(source: ConntrackSource) -> list[object]:
    """The steps of one poll; a batch as its (kind, id) pairs."""
    return [summary(step) for step in source.poll()]


def summary(step: Step) -> object:
    if isinstance(step, FlowBatch):
        return [
            (RecordKind(kind).name, number) for kind, number in zip(step.kind.tolist(), step.id.tolist(), strict=True)
        ]
    return step


def test_first_poll(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), entry(2), drained=False), received(entry(3), done())]]
    kernel.events += [received(event(4), destroyed(1))]
    assert source.deadline() == 100.0
    assert steps_of(source) == [
        ReadStarted("start"),
        [("DUMPED", 1), ("DUMPED", 2)],
        [("DUMPED", 3)],
        [("OPENED", 4), ("CLOSED", 1)],
        ReadFinished(complete=True),
        CaughtUp(100.0),
    ]
    assert source.deadline() == 102.0
    assert source.stats.records == 5
    assert source.stats.resyncs == {"start": 1}
    assert all(made.closed for made in kernel.sockets[1:])


def test_only_events_between_reads(kernel: Kernel, source: ConntrackSource) -> None:
    steps_of(source)
    kernel.events += [received(event(1))]
    kernel.now = 101.0
    assert steps_of(source) == [[("OPENED", 1)], CaughtUp(101.0)]


def test_time_of_caught_up(kernel: Kernel, source: ConntrackSource) -> None:
    steps_of(source)

    def slow() -> Received:
        kernel.now += 5
        return QUIET

    kernel.events += [slow]
    assert steps_of(source) == [CaughtUp(100.0)]


def test_timer(kernel: Kernel, source: ConntrackSource) -> None:
    steps_of(source)
    kernel.now = 130.0
    kernel.events += [received(destroyed(1))]  # what waits comes first: a read may show the next flow in its place
    assert steps_of(source) == [
        [("CLOSED", 1)],
        CaughtUp(130.0),
        ReadStarted("timer"),
        ReadFinished(complete=True),
        CaughtUp(130.0),
    ]
    assert source.stats.resyncs == {"start": 1, "timer": 1}


def test_first_read_marks_end_unannounced(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1))] for _ in range(3)] + [[received(entry(1), done())]] * 2
    flags = []
    for now in (100.0, 110.0, 140.0):
        kernel.now = now
        flags.append(
            [bool(step.flags[0] & Flag.END_UNANNOUNCED) for step in source.poll() if isinstance(step, FlowBatch)]
        )
    assert flags == [[True] * 3, [True], [False]], "the first read was not complete, so the second is still the first"


def test_overrun_starts_a_full_read(kernel: Kernel, source: ConntrackSource) -> None:
    steps_of(source)
    kernel.events += [received(event(1), drained=False, overrun=True), received(event(2), drained=True)]
    assert steps_of(source) == [[("OPENED", 1)], Lost("overrun"), [("OPENED", 2)]], "nothing is claimed after a loss"
    assert source.stats.overruns == 1
    assert source.stats.lost == {}, "how many were lost is not known"
    assert source.deadline() == 100.0
    assert "stale" in source.stats.notes["loss"]
    assert steps_of(source) == [ReadStarted("overrun"), ReadFinished(complete=True), CaughtUp(100.0)]
    assert "loss" not in source.stats.notes


def overrun(kernel: Kernel) -> None:
    kernel.events += [received(drained=False, overrun=True)]


@pytest.mark.parametrize(
    ("resync", "expected"),
    [
        (600.0, [0, LOSS_BACKOFF, 20, 40, 80, LOSS_BACKOFF_LIMIT, LOSS_BACKOFF_LIMIT]),
        (30.0, [0, LOSS_BACKOFF, 20, 30, 30, 30, 30]),
        (2.0, [0, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_backoff_of_full_reads_after_losses(
    kernel: Kernel, resync: float, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_pace, "LEAST", resync)
    source = ConntrackSource(resync=resync, receive_buffer=1000, clock=kernel.clock)
    source.open()
    steps_of(source)
    distances = []
    for _ in range(7):
        overrun(kernel)
        assert Lost("overrun") in steps_of(source)
        distances.append(source.deadline() - kernel.now)
        kernel.now = source.deadline()
        assert ReadStarted("overrun") in steps_of(source)
    assert distances == expected
    kernel.now = source.deadline()
    assert ReadStarted("timer") in steps_of(source)
    overrun(kernel)
    steps_of(source)
    assert source.deadline() == kernel.now, "a quiet interval forgives"


def test_buffer_grows_to_a_limit(kernel: Kernel, source: ConntrackSource) -> None:
    sizes = []
    for _ in range(4):
        overrun(kernel)
        steps_of(source)
        sizes.append(source.stats.receive_buffer)
    assert sizes == [2000, 4000, 4000, 4000]


def test_loss_during_a_read_makes_it_incomplete(kernel: Kernel, source: ConntrackSource) -> None:
    overrun(kernel)
    assert steps_of(source) == [ReadStarted("start"), Lost("overrun"), ReadFinished(complete=False)]
    assert source.deadline() == 100.0
    assert steps_of(source)[-2:] == [ReadFinished(complete=True), CaughtUp(100.0)]


def test_truncated_datagrams_are_a_loss(kernel: Kernel, source: ConntrackSource) -> None:
    steps_of(source)
    kernel.events += [received(event(1), truncated=2)]
    assert steps_of(source) == [[("OPENED", 1)], Lost("truncated")]
    assert source.stats.lost == {"truncated": 2}
    assert steps_of(source)[0] == ReadStarted("overrun")


def test_malformed_messages_are_counted(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), encode_message(CtMessage.NEW, 2, b""), entry(2), done())]]
    kernel.events += [received(encode_message(0x0200, 0, bytes(8)), event(3))]
    assert steps_of(source)[1:] == [
        [("DUMPED", 1), ("DUMPED", 2)],
        [("OPENED", 3)],
        ReadFinished(complete=True),
        CaughtUp(100.0),
    ]
    assert source.stats.lost == {"malformed": 2}


def test_inconsistent_dump_is_repeated(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), INTERRUPTED)], [received(entry(1), entry(2), done())]]
    assert steps_of(source) == [
        ReadStarted("start"),
        [("DUMPED", 1)],
        [("DUMPED", 1), ("DUMPED", 2)],
        ReadFinished(complete=True),
        CaughtUp(100.0),
    ]


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param([received(entry(1), INTERRUPTED)], id="inconsistent"),
        pytest.param([received(entry(1))], id="no end"),
        pytest.param([received(entry(1), done(errno.EINTR))], id="ended by a passing error"),
        pytest.param([received(entry(1), drained=False, truncated=1), received(done())], id="truncated"),
        pytest.param([received(entry(1), drained=False, overrun=True), received(done())], id="overrun"),
        pytest.param([received(entry(1) + b"\1\0\0\0", drained=False), received(done())], id="not framed"),
    ],
)
def test_incomplete_dump(kernel: Kernel, source: ConntrackSource, dump: list[Received]) -> None:
    kernel.dumps = [dump, dump, dump, [received(entry(1), done())]]
    assert steps_of(source) == [ReadStarted("start"), *[[("DUMPED", 1)]] * 3, ReadFinished(complete=False)]
    assert steps_of(source)[0] == ReadStarted("start"), "it is begun again at once"


@pytest.mark.parametrize("number, kind", [(errno.EPERM, SourceDenied), (errno.EINVAL, SourceError)])
def test_refused_dump(kernel: Kernel, source: ConntrackSource, number: int, kind: type[SourceError]) -> None:
    refusal = encode_message(Control.ERROR, 0, struct.pack("=i", -number) + bytes(16))
    kernel.dumps = [[received(refusal)]]
    with pytest.raises(kind, match="cannot read the conntrack table") as caught:
        steps_of(source)
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert kernel.sockets[-1].closed


def test_records_of_a_poll_are_bounded(
    kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack, "EVENTS_A_POLL", 10)
    kernel.events += [received(*[event(n) for n in range(6)], drained=False)] * 3 + [received(event(9))]
    steps = steps_of(source)
    assert [type(step) for step in steps] == [ReadStarted, list, list]
    assert [type(step) for step in steps_of(source)] == [list, list, ReadFinished, CaughtUp]


def test_no_caught_up_without_events(kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: ConntrackSysctls(1, 0, 5, 100))
    assert steps_of(source) == [ReadStarted("start"), ReadFinished(complete=True)]


def test_first_event_shows_that_events_are_sent(
    kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: ConntrackSysctls(1, None, 5, 100))
    source.open()
    assert steps_of(source) == [ReadStarted("start"), ReadFinished(complete=True)]
    kernel.events += [received(event(1))]
    assert [type(step) for step in steps_of(source)] == [list, CaughtUp]
    assert [type(step) for step in steps_of(source)] == [CaughtUp]


def test_reopening(kernel: Kernel, source: ConntrackSource) -> None:
    steps_of(source)
    source.close()
    source.close()
    assert (source.fileno(), source.stats.up) == (-1, False)
    with pytest.raises(SourceError, match="not open"):
        steps_of(source)
    source.open()
    assert (source.fileno(), source.stats.up) == (77, True)
    assert steps_of(source)[0] == ReadStarted("start")


def test_note_about_entries_without_counters(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), entry(2), done())]]
    steps_of(source)
    assert source.stats.notes["uncounted"].startswith("2 entries")
    assert "older than nf_conntrack_acct=1" in source.stats.notes["uncounted"]


def test_note_about_entries_while_accounting_is_off(
    kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: ConntrackSysctls(0, 1, 5, 100))
    kernel.dumps = [[received(entry(1), done())]]
    steps_of(source)
    assert source.stats.notes["uncounted"] == "1 entries of the last full read have no byte counters: accounting is off"


def offloaded(number: int, *, hardware: bool = False) -> bytes:
    return encode_entry(CtMessage.NEW, DUMP, tcp(id=number, status=0xC00E if hardware else 0x400E))


def test_offloaded_connections(kernel: Kernel, source: ConntrackSource) -> None:
    assert source.stats.offloaded == {}, "not known yet"
    kernel.dumps = [
        [received(entry(1), offloaded(2), INTERRUPTED)],
        [received(entry(1), offloaded(2), offloaded(3, hardware=True), done())],
    ]
    steps_of(source)
    assert source.stats.offloaded == {"software": 1, "hardware": 1}, "of the attempt that counts"
    assert source.stats.notes["offload"].startswith("2 of 3 connections are offloaded to a flowtable, 1 of them to")
    assert source.stats.notes["uncounted"].startswith("3 entries"), "an interrupted read counts once"
    kernel.now += 30
    kernel.dumps = [[received(entry(1), done())]]
    steps_of(source)
    assert source.stats.offloaded == {"software": 0, "hardware": 0}
    assert "offload" not in source.stats.notes


def test_census(kernel: Kernel) -> None:
    kernel.dumps = [[received(entry(1), offloaded(2), drained=False), received(offloaded(3, hardware=True), done())]]
    assert read_census() == Census(entries=3, uncounted=3, software=1, hardware=1)
    kernel.dumps = [[received(entry(1), INTERRUPTED)]]
    with pytest.raises(SourceError, match="changed while it was read"):
        read_census()


def test_accounting_is_enabled_only_if_configured(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = conntrack_check.write_accounting
    monkeypatch.setattr(conntrack_check, "write_accounting", lambda: write(tmp_path))
    ConntrackSource(clock=kernel.clock).open()
    assert not (tmp_path / "nf_conntrack_acct").exists()
    ConntrackSource(clock=kernel.clock, enable_accounting=True).open()
    assert (tmp_path / "nf_conntrack_acct").read_text() == "1"
    monkeypatch.setattr(conntrack_check, "write_accounting", lambda: write(tmp_path / "absent"))
    refused = ConntrackSource(clock=kernel.clock, enable_accounting=True)
    refused.open()
    assert "enable_accounting" not in refused.stats.notes, "it is on"
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: ConntrackSysctls(0, 1, 10, 1000))
    refused.open()
    assert "No such file" in refused.stats.notes["enable_accounting"]
    steps_of(refused)
    assert "No such file" in refused.stats.notes["enable_accounting"], "a full read changes nothing about that"
