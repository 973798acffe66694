"""The conntrack source against scripted sockets, and what is found about a host's settings."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from flowmap.errors import SourceDenied, SourceError
from flowmap.flows.batch import Flag, FlowBatch, RecordKind
from flowmap.sources.base import CaughtUp, Finding, Lost, ReadFinished, ReadStarted, Step
from flowmap.sources.conntrack import check as conntrack_check
from flowmap.sources.conntrack import dump as conntrack_dump
from flowmap.sources.conntrack import source as conntrack
from flowmap.sources.conntrack.check import (
    Census,
    ConntrackProbe,
    ConntrackSysctls,
    findings,
    notes,
    offload_finding,
    read_census,
    read_entries,
    read_settings,
)
from flowmap.sources.conntrack.source import LOSS_BACKOFF, LOSS_BACKOFF_LIMIT, ConntrackSource
from flowmap.sources.netlink_socket import Received
from flowmap.system import proc
from flowmap.system.proc import Unknown
from flowmap.wire.netlink.conntrack import CtMessage, TableSize
from flowmap.wire.netlink.conntrack_encode import encode_entry
from flowmap.wire.netlink.messages import Control, MessageFlag, encode_message
from tests.support.conntrack_messages import DUMP, EVENT, NEW, tcp
from tests.support.netlink_recordings import joined

QUIET = Received(memoryview(b""), [], True, False, 0)
GOOD = ConntrackSysctls(accounting=1, events=1, entries=10, limit=1000)


def received(*parts: bytes, drained: bool = True, overrun: bool = False, truncated: int = 0) -> Received:
    data, starts = joined(list(parts))
    return Received(memoryview(data), starts, drained, overrun, truncated)


def entry(number: int) -> bytes:
    return encode_entry(CtMessage.NEW, DUMP, tcp(id=number))


def event(number: int) -> bytes:
    return encode_entry(CtMessage.NEW, NEW, tcp(id=number))


def destroyed(number: int) -> bytes:
    return encode_entry(CtMessage.DELETE, EVENT, tcp(id=number))


def done(status: int = 0, flags: int = 2) -> bytes:
    return encode_message(Control.DONE, flags, struct.pack("=i", -status))


INTERRUPTED = done(flags=MessageFlag.MULTI | MessageFlag.DUMP_INTR)


class Kernel:
    """Gives the source its sockets; each plays what was put down for it, and quiet after that."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[Received | Callable[[], Received]] = []
        self.dumps: list[list[Received]] = []
        self.sockets: list[ScriptedSocket] = []

    def event_socket(self, _protocol: int, *, receive_buffer: int, **_: object) -> ScriptedSocket:
        return self._make(self.events, receive_buffer)

    def dump_socket(self, _protocol: int, **_: object) -> ScriptedSocket:
        return self._make(list(self.dumps.pop(0) if self.dumps else [received(done())]), 0)

    def _make(self, script: list[Received | Callable[[], Received]], receive_buffer: int) -> ScriptedSocket:
        made = ScriptedSocket(script, receive_buffer)
        self.sockets.append(made)
        return made

    def clock(self) -> float:
        return self.now


class ScriptedSocket:
    def __init__(self, script: list[Received | Callable[[], Received]], receive_buffer: int) -> None:
        self._script, self.receive_buffer, self.closed = script, receive_buffer, False

    def receive(self, *, wait: float = 0) -> Received:
        item = self._script.pop(0) if self._script else QUIET
        return item() if callable(item) else item

    def send(self, request: bytes) -> None:
        assert request

    def grow(self, size: int) -> int:
        self.receive_buffer = size
        return size

    def fileno(self) -> int:
        return 77

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(conntrack, "NetlinkSocket", made.event_socket)
    monkeypatch.setattr(conntrack_dump, "NetlinkSocket", made.dump_socket)
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: GOOD)
    return made


@pytest.fixture
def source(kernel: Kernel) -> ConntrackSource:
    made = ConntrackSource(resync=30, receive_buffer=1000, clock=kernel.clock)
    made.open()
    return made


def told(source: ConntrackSource) -> list[object]:
    """The steps of one poll; a batch as its (kind, id) pairs."""
    return [tell(step) for step in source.poll()]


def tell(step: Step) -> object:
    if isinstance(step, FlowBatch):
        return [
            (RecordKind(kind).name, number) for kind, number in zip(step.kind.tolist(), step.id.tolist(), strict=True)
        ]
    return step


def test_the_first_poll_reads_all_then_the_events_queued_meanwhile(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), entry(2), drained=False), received(entry(3), done())]]
    kernel.events += [received(event(4), destroyed(1))]
    assert source.deadline() == 100.0
    assert told(source) == [
        ReadStarted("start"),
        [("DUMPED", 1), ("DUMPED", 2)],
        [("DUMPED", 3)],
        [("OPENED", 4), ("CLOSED", 1)],
        ReadFinished(complete=True),
        CaughtUp(100.0),
    ]
    assert source.deadline() == 130.0
    assert source.stats.records == 5
    assert source.stats.resyncs == {"start": 1}
    assert all(made.closed for made in kernel.sockets[1:])


def test_between_reads_only_events(kernel: Kernel, source: ConntrackSource) -> None:
    told(source)
    kernel.events += [received(event(1))]
    kernel.now = 101.0
    assert told(source) == [[("OPENED", 1)], CaughtUp(101.0)]


def test_caught_up_is_the_time_before_the_read_that_found_nothing(kernel: Kernel, source: ConntrackSource) -> None:
    told(source)

    def slow() -> Received:
        kernel.now += 5
        return QUIET

    kernel.events += [slow]
    assert told(source) == [CaughtUp(100.0)]


def test_the_timer_reads_again(kernel: Kernel, source: ConntrackSource) -> None:
    told(source)
    kernel.now = 130.0
    kernel.events += [received(destroyed(1))]  # what waits comes first: a read may show the next flow in its place
    assert told(source) == [
        [("CLOSED", 1)],
        CaughtUp(130.0),
        ReadStarted("timer"),
        ReadFinished(complete=True),
        CaughtUp(130.0),
    ]
    assert source.stats.resyncs == {"start": 1, "timer": 1}


def test_records_of_the_first_complete_read_may_end_unannounced(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1))] for _ in range(3)] + [[received(entry(1), done())]] * 2
    flags = []
    for now in (100.0, 110.0, 140.0):
        kernel.now = now
        flags.append(
            [bool(step.flags[0] & Flag.END_UNANNOUNCED) for step in source.poll() if isinstance(step, FlowBatch)]
        )
    assert flags == [[True] * 3, [True], [False]], "the first read was not complete, so the second is still the first"


def test_an_overrun_is_told_and_read_over_at_once(kernel: Kernel, source: ConntrackSource) -> None:
    told(source)
    kernel.events += [received(event(1), drained=False, overrun=True), received(event(2), drained=True)]
    assert told(source) == [[("OPENED", 1)], Lost("overrun"), [("OPENED", 2)]], "nothing is claimed after a loss"
    assert source.stats.overruns == 1
    assert source.stats.lost == {}, "how many were lost is not known"
    assert source.deadline() == 100.0
    assert "stale" in source.stats.notes["loss"]
    assert told(source) == [ReadStarted("overrun"), ReadFinished(complete=True), CaughtUp(100.0)]
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
def test_full_reads_after_losses_keep_a_growing_distance_but_never_wait_longer_than_without(
    kernel: Kernel, resync: float, expected: list[float]
) -> None:
    source = ConntrackSource(resync=resync, receive_buffer=1000, clock=kernel.clock)
    source.open()
    told(source)
    distances = []
    for _ in range(7):
        overrun(kernel)
        assert Lost("overrun") in told(source)
        distances.append(source.deadline() - kernel.now)
        kernel.now = source.deadline()
        assert ReadStarted("overrun") in told(source)
    assert distances == expected
    kernel.now = source.deadline()
    assert ReadStarted("timer") in told(source)
    overrun(kernel)
    told(source)
    assert source.deadline() == kernel.now, "a quiet interval forgives"


def test_the_buffer_grows_with_overruns_to_a_bound(kernel: Kernel, source: ConntrackSource) -> None:
    sizes = []
    for _ in range(4):
        overrun(kernel)
        told(source)
        sizes.append(source.stats.receive_buffer)
    assert sizes == [2000, 4000, 4000, 4000]


def test_a_loss_while_a_read_is_finishing_spoils_it(kernel: Kernel, source: ConntrackSource) -> None:
    overrun(kernel)
    assert told(source) == [ReadStarted("start"), Lost("overrun"), ReadFinished(complete=False)]
    assert source.deadline() == 100.0
    assert told(source)[-2:] == [ReadFinished(complete=True), CaughtUp(100.0)]


def test_truncated_datagrams_are_counted_and_are_a_loss(kernel: Kernel, source: ConntrackSource) -> None:
    told(source)
    kernel.events += [received(event(1), truncated=2)]
    assert told(source) == [[("OPENED", 1)], Lost("truncated")]
    assert source.stats.lost == {"truncated": 2}
    assert told(source)[0] == ReadStarted("overrun")


def test_malformed_messages_are_counted_and_passed_over(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), encode_message(CtMessage.NEW, 2, b""), entry(2), done())]]
    kernel.events += [received(encode_message(0x0200, 0, bytes(8)), event(3))]
    assert told(source)[1:] == [
        [("DUMPED", 1), ("DUMPED", 2)],
        [("OPENED", 3)],
        ReadFinished(complete=True),
        CaughtUp(100.0),
    ]
    assert source.stats.lost == {"malformed": 2}


def test_an_inconsistent_dump_is_begun_again(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), INTERRUPTED)], [received(entry(1), entry(2), done())]]
    assert told(source) == [
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
def test_a_dump_that_is_never_whole_finishes_incomplete(
    kernel: Kernel, source: ConntrackSource, dump: list[Received]
) -> None:
    kernel.dumps = [dump, dump, dump, [received(entry(1), done())]]
    assert told(source) == [ReadStarted("start"), *[[("DUMPED", 1)]] * 3, ReadFinished(complete=False)]
    assert told(source)[0] == ReadStarted("start"), "it is begun again at once"


@pytest.mark.parametrize("number, kind", [(errno.EPERM, SourceDenied), (errno.EINVAL, SourceError)])
def test_a_refused_dump_is_an_error_with_a_remedy(
    kernel: Kernel, source: ConntrackSource, number: int, kind: type[SourceError]
) -> None:
    refusal = encode_message(Control.ERROR, 0, struct.pack("=i", -number) + bytes(16))
    kernel.dumps = [[received(refusal)]]
    with pytest.raises(kind, match="cannot read the conntrack table") as caught:
        told(source)
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert kernel.sockets[-1].closed


def test_a_storm_does_not_hold_the_caller(
    kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack, "EVENTS_A_POLL", 10)
    kernel.events += [received(*[event(n) for n in range(6)], drained=False)] * 3 + [received(event(9))]
    steps = told(source)
    assert [type(step) for step in steps] == [ReadStarted, list, list]
    assert [type(step) for step in told(source)] == [list, list, ReadFinished, CaughtUp]


def test_without_events_nothing_is_claimed(
    kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: ConntrackSysctls(1, 0, 5, 100))
    assert told(source) == [ReadStarted("start"), ReadFinished(complete=True)]


def test_where_it_cannot_be_known_the_first_event_shows_that_there_are_events(
    kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: ConntrackSysctls(1, None, 5, 100))
    source.open()
    assert told(source) == [ReadStarted("start"), ReadFinished(complete=True)]
    kernel.events += [received(event(1))]
    assert [type(step) for step in told(source)] == [list, CaughtUp]
    assert [type(step) for step in told(source)] == [CaughtUp]


def test_reopening_starts_over(kernel: Kernel, source: ConntrackSource) -> None:
    told(source)
    source.close()
    source.close()
    assert (source.fileno(), source.stats.up) == (-1, False)
    with pytest.raises(SourceError, match="not open"):
        told(source)
    source.open()
    assert (source.fileno(), source.stats.up) == (77, True)
    assert told(source)[0] == ReadStarted("start")


def test_entries_without_counters_are_noted(kernel: Kernel, source: ConntrackSource) -> None:
    kernel.dumps = [[received(entry(1), entry(2), done())]]
    told(source)
    assert source.stats.notes["uncounted"].startswith("2 entries")
    assert "older than nf_conntrack_acct=1" in source.stats.notes["uncounted"]


def test_entries_without_counters_are_not_said_to_be_old_while_accounting_is_off(
    kernel: Kernel, source: ConntrackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: ConntrackSysctls(0, 1, 5, 100))
    kernel.dumps = [[received(entry(1), done())]]
    told(source)
    assert source.stats.notes["uncounted"] == "1 entries of the last full read have no byte counters: accounting is off"


def offloaded(number: int, *, hardware: bool = False) -> bytes:
    return encode_entry(CtMessage.NEW, DUMP, tcp(id=number, status=0xC00E if hardware else 0x400E))


def test_offloaded_connections_are_counted_by_every_full_read(kernel: Kernel, source: ConntrackSource) -> None:
    assert source.stats.offloaded == {}, "not known yet"
    kernel.dumps = [
        [received(entry(1), offloaded(2), INTERRUPTED)],
        [received(entry(1), offloaded(2), offloaded(3, hardware=True), done())],
    ]
    told(source)
    assert source.stats.offloaded == {"software": 1, "hardware": 1}, "of the attempt that counts"
    assert source.stats.notes["offload"].startswith("2 of 3 connections are offloaded to a flowtable, 1 of them to")
    assert source.stats.notes["uncounted"].startswith("3 entries"), "an interrupted read counts once"
    kernel.now += 30
    kernel.dumps = [[received(entry(1), done())]]
    told(source)
    assert source.stats.offloaded == {"software": 0, "hardware": 0}
    assert "offload" not in source.stats.notes


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
def test_what_check_says_of_offloaded_connections(census: Census, level: str, words: str) -> None:
    finding = offload_finding(census)
    assert (finding.level, finding.message[: len(words)]) == (level, words)
    assert bool(finding.remedy) == (level != "ok")


def test_check_reads_the_table_once(kernel: Kernel) -> None:
    kernel.dumps = [[received(entry(1), offloaded(2), drained=False), received(offloaded(3, hardware=True), done())]]
    assert read_census() == Census(entries=3, uncounted=3, software=1, hardware=1)
    kernel.dumps = [[received(entry(1), INTERRUPTED)]]
    with pytest.raises(SourceError, match="changed while it was read"):
        read_census()


def test_accounting_is_switched_on_only_if_asked(
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
    told(refused)
    assert "No such file" in refused.stats.notes["enable_accounting"], "a full read changes nothing about that"


WHOLE = ConntrackProbe(asked=1000, granted=1000)


@pytest.mark.parametrize(
    "settings, probe, name, level, words",
    [
        (GOOD, WHOLE, "access", "ok", "can be read"),
        (GOOD, WHOLE, "accounting", "ok", "byte counters"),
        (ConntrackSysctls(0, 1, 10, 1000), WHOLE, "accounting", "degraded", "without bytes"),
        (ConntrackSysctls(None, 1, 10, 1000), WHOLE, "accounting", "degraded", "cannot be read"),
        (GOOD, WHOLE, "events", "ok", "announced"),
        (ConntrackSysctls(1, 2, 10, 1000), WHOLE, "events", "degraded", "older than flowmap"),
        (ConntrackSysctls(1, 0, 10, 1000), WHOLE, "events", "degraded", "only by full reads"),
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
        (GOOD, ConntrackProbe(1000, 200), "receive_buffer", "degraded", "200 bytes of the 1000"),
    ],
)
def test_findings(settings: ConntrackSysctls, probe: ConntrackProbe, name: str, level: str, words: str) -> None:
    (finding,) = [found for found in findings(settings, probe) if found.name == f"conntrack.{name}"]
    assert finding.level == level
    assert words in finding.message
    assert bool(finding.remedy) == (level != "ok")


def test_accounting_that_will_be_switched_on_is_still_late_for_old_entries() -> None:
    found = {f.name: f for f in findings(ConntrackSysctls(0, 1, 1, 9), WHOLE, enable_accounting=True)}
    assert "switched on at start" in found["conntrack.accounting"].message


def test_without_access_nothing_else_matters() -> None:
    denied = ConntrackProbe(1000, error=SourceDenied("cannot join", remedy="be root"))
    assert findings(GOOD, denied) == [Finding("conntrack.access", "failed", "cannot join", "be root")]


def test_notes_are_the_degraded_findings() -> None:
    found = findings(ConntrackSysctls(0, 1, 10, 1000), WHOLE)
    assert list(notes(found)) == ["accounting"]
    assert "sysctl" in notes(found)["accounting"]


def test_settings_are_read_where_they_can_be(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == ConntrackSysctls()
    for name, text in (("acct", "1\n"), ("events", "2"), ("count", "5"), ("max", "nonsense")):
        (tmp_path / f"nf_conntrack_{name}").write_text(text)
    assert read_settings(tmp_path) == ConntrackSysctls(
        1, 2, 5, None, cause=f"{tmp_path}/nf_conntrack_max holds no number"
    )


@pytest.mark.parametrize("hidden", [False, True])
def test_a_table_that_is_not_there_is_not_one_that_cannot_be_seen(
    hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the files it is asked over netlink, unless they would be visible."""
    where = tmp_path / "sys" / "net"
    where.mkdir(parents=True)
    monkeypatch.setattr(proc, "SYS", tmp_path / "sys")
    if not hidden:
        (tmp_path / "sys" / "kernel").mkdir()
    asked: list[TableSize | Unknown] = [Unknown("no permission"), TableSize(7, 100)]
    monkeypatch.setattr(conntrack_check, "ask_table_size", lambda: asked.pop(0))
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
