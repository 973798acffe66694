"""History's thread, handed real rows of a flow table: what is kept, and which faults cost what."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flowmap.attribute.answers.intervals import IntervalChange, OwnershipInterval, fold
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question, Shape
from flowmap.engine.commands import Finish, GiveUp
from flowmap.engine.unwritten import STOPPED
from flowmap.errors import HistoryError
from flowmap.flows.records.batch import RecordKind
from flowmap.history.clock import boot
from flowmap.history.store import HistoryStore, WriteResult
from flowmap.history.writer import HistoryWriter
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import State
from tests.support.closed_flows import X, Y
from tests.support.history import EPOCH, FLOW, LIMITS, RecordedAccounting, fail_and_recover
from tests.support.netns import needs_root
from tests.support.records import replace
from tests.support.scripted_source import until


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[RecordedAccounting]:
    made = RecordedAccounting(tmp_path / "history.db")
    yield made
    made.stop()


def test_decided_flows_are_written(recorded: RecordedAccounting) -> None:
    day = recorded.day
    day(FLOW)
    day.answer(X)
    day(replace(FLOW, kind=RecordKind.CLOSED, counters=(500, 70, 5, 1)))  # decided before it ended
    other = replace(FLOW, client="10.0.0.2", id=2, translated=("10.0.0.9", 1, "10.2.0.1", 2))
    day(other, replace(other, kind=RecordKind.CLOSED, counters=(9, 8, 7, 6)))
    assert len(day.accounting.table) == 1, "it waits"
    recorded.flush()
    assert len(recorded.flows()) == 1
    day.accounting.apply(GiveUp(day.now + 1, day.now))  # decided after it ended
    recorded.flush()
    first, second = recorded.flows()
    assert (first.view.state, first.view.deployments[0].owner, first.view.transmit_bytes) == (State.ATTRIBUTED, X, 500)
    assert {piece.rule for piece in first.evidence} == {"inside"}
    assert (second.view.state, second.view.deployments, second.cause) == (State.FAILED, (), second.cause)
    assert second.cause
    assert second.view.translated is not None and second.view.translated[1].port == 2
    start, end = first.view.started_at, first.view.ended_at
    assert start is not None and end is not None and EPOCH + 1000 < start < end <= EPOCH + day.now
    assert recorded.writer.figures.written == 2


def test_all_flows_are_written_at_the_end(tmp_path: Path) -> None:
    recorded = RecordedAccounting(tmp_path / "history.db", accounting={"exclude": ("tcp/53",)})
    recorded.day(replace(FLOW, server_port=53, id=9), replace(FLOW, server_port=53, id=9, kind=RecordKind.CLOSED))
    recorded.day(FLOW, replace(FLOW, client_port=2, id=2))
    recorded.day.answer(X)
    recorded.day(replace(FLOW, client_port=3, id=3))
    ended = replace(FLOW, client_port=4, id=4)
    recorded.day(ended, replace(ended, kind=RecordKind.CLOSED, counters=(7, 8, 1, 1)))
    first = recorded.writer.first_end()
    assert first is None, "it is in the table"
    recorded.day.accounting.apply(Finish())
    recorded.stop()
    flows = {one.view.client.port: one for one in recorded.flows()}
    assert flows.keys() == {40000, 2, 3, 4}, "all but ignored ones"
    assert {port: one.view.state for port, one in flows.items()} == {
        **dict.fromkeys((40000, 2), State.ATTRIBUTED),
        **dict.fromkeys((3, 4), State.FAILED),
    }
    assert flows[3].cause == flows[4].cause == STOPPED
    assert [port for port, one in flows.items() if one.view.ended_at is not None] == [4]
    assert flows[4].view.transmit_bytes == 7


def test_a_daemon_that_was_killed_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    for _ in range(2):
        stopped = RecordedAccounting(path)
        assert not stopped.writer.figures.notes
        stopped.stop()
    killed = HistoryStore(str(path), LIMITS)
    killed.open()
    killed.close()
    following = RecordedAccounting(path)
    assert "killed" in following.writer.figures.notes["interrupted"]
    following.stop()


def test_a_burst_without_an_answer_is_a_flow_of_its_own_at_the_end(recorded: RecordedAccounting) -> None:
    """The bytes that an answer covers keep their decision, those after it have none, and no byte is missing."""
    day, udp = recorded.day, replace(FLOW, protocol=17, counters=(90, 9, 1, 1))
    day(udp)
    day.answer(X)
    day(replace(udp, kind=RecordKind.UPDATED, counters=(500, 70, 5, 1)))
    day.accounting.apply(Finish())
    recorded.flush()
    found = [
        (one.view.transmit_bytes, one.view.state is State.FAILED, one.cause == STOPPED) for one in recorded.flows()
    ]
    assert found == [(90, False, False), (410, True, True)]


def test_the_first_end_of_what_waits(tmp_path: Path) -> None:
    recorded = RecordedAccounting(tmp_path / "missing" / "history.db")
    assert recorded.writer.first_end() is None
    recorded.close_some(2)
    first = recorded.writer.first_end()
    assert first is not None and EPOCH < first <= EPOCH + recorded.day.now
    recorded.close_some(1, first=9)
    until(lambda: "file" in recorded.writer.figures.notes, "it fails")
    assert recorded.writer.first_end() == pytest.approx(first, abs=1e-5)
    (tmp_path / "missing").mkdir()
    until(lambda: recorded.flush() is not None and recorded.writer.first_end() is None, "it is written", seconds=20)
    recorded.stop()


def test_a_file_that_can_be_opened_only_is_not_written_again(
    recorded: RecordedAccounting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk: the file opens, and each write fails."""
    tried: list[bool] = []

    def fail(*_: object, **__: object) -> WriteResult:
        tried.append(recorded.writer.figures.up)
        raise HistoryError("no space left", reason="disk_full")

    caplog.set_level("INFO", logger="flowmap.history.writer")
    monkeypatch.setattr(HistoryStore, "write", fail)
    recorded.close_some(3)
    recorded.flush()
    until(lambda: len(tried) >= 4, "it is tried again", seconds=20)
    assert not any(tried[1:]) and "can be written again" not in caplog.text
    monkeypatch.undo()
    until(lambda: recorded.writer.figures.up, "it is written", seconds=20)
    assert caplog.text.count("can be written again") == 1
    assert len(recorded.flows()) == 3


def test_evicted_flows_have_failed(tmp_path: Path) -> None:
    recorded = RecordedAccounting(tmp_path / "history.db", accounting={"max_flows": 2})
    for port in (1, 2):
        recorded.day(replace(FLOW, client_port=port, id=port, kind=RecordKind.CLOSED, counters=(port, port, 1, 1)))
    recorded.day(replace(FLOW, client_port=3, id=3))
    recorded.stop()
    (only,) = recorded.flows()
    assert (only.view.state, only.cause) == (State.FAILED, "shed: the flow table is full (collect.max_flows)")


def test_a_full_queue_counts_lost_flows(tmp_path: Path) -> None:
    recorded = RecordedAccounting(tmp_path / "history.db", max_queued=10, flush_every=60.0)
    recorded.close_some(25)
    assert recorded.writer.figures.queued == 10
    assert recorded.writer.figures.lost == {"queue_full": 15}
    recorded.stop()
    assert [one.view.client.port for one in recorded.flows()] == list(range(1, 11))
    assert recorded.writer.figures.queued == 0


def test_flush_returns_the_next_number(recorded: RecordedAccounting) -> None:
    recorded.close_some(3)
    assert recorded.flush() == 4
    recorded.close_some(2, first=10)
    assert recorded.flush() == 6


def question() -> Question:
    return Question("ns", Shape.CLIENT, Endpoint(Address.parse("10.0.0.1"), 0), None)


def confirm(
    recorded: RecordedAccounting, known: OwnershipInterval | None, at: float, *owners: object
) -> OwnershipInterval:
    change = fold(known, Answer(at, at + 0.5, frozenset(owners)))  # type: ignore[arg-type]
    recorded.writer.confirmed(question(), change)
    return change.current


@pytest.mark.parametrize("reboot", [False, True])
def test_intervals_are_restored_after_a_restart(tmp_path: Path, reboot: bool) -> None:
    recorded = RecordedAccounting(tmp_path / "history.db")
    assert recorded.known == []
    first = confirm(recorded, None, 1000.0, X)
    first = confirm(recorded, first, 1060.0, X)
    recorded.flush()
    recorded.epoch += 5000.0  # the wall clock is set; a growing interval moves with it
    first = confirm(recorded, first, 1120.0, X)
    recorded.stop()
    again = RecordedAccounting(tmp_path / "history.db")
    if reboot:  # then only wall time is comparable
        again.stop()
        next_boot = boot() + 1
        again.writer = HistoryWriter(again.path, LIMITS, source="scripted", epoch=lambda: EPOCH, boot=lambda: next_boot)
        ((_, known),) = again.writer.open()
        assert known.last_arrived == pytest.approx(first.last_arrived + 5000.0)
        again.writer.start()
    else:
        ((_, known),) = again.known
        assert known == first._replace(owners=known.owners)
        recorded.epoch = EPOCH + 77.0
    widened = confirm(again, known, known.last_asked + 60, X)
    confirm(again, widened, known.last_asked + 120, Y)
    again.stop()
    with closing(sqlite3.connect(again.path)) as database:
        found = database.execute("SELECT first_asked, last_asked, answers, closed_by FROM span ORDER BY id").fetchall()
    assert [(answers, why) for _, _, answers, why in found] == [(4, "denied"), (1, None)], "it grew and was closed"
    assert all(begun <= ended for begun, ended, _, _ in found)


def test_contradictions_change_no_interval(recorded: RecordedAccounting) -> None:
    first = confirm(recorded, None, 1000.0, X)
    recorded.writer.confirmed(question(), IntervalChange(first, contradicted=True))
    recorded.flush()
    assert recorded.writer.figures.intervals_written == 1


def test_a_locked_file(recorded: RecordedAccounting) -> None:
    code = (
        "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None); d.execute('BEGIN IMMEDIATE');"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, recorded.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        fail_and_recover(recorded, lambda: other.communicate(), reason="locked")


@pytest.mark.parametrize("garble", ["head", "cut"])
def test_a_file_that_breaks_while_open(recorded: RecordedAccounting, garble: str) -> None:
    figures = recorded.writer.figures
    for n in range(5):
        recorded.close_some(20, first=1 + 100 * n)
        recorded.flush()
    if garble == "head":
        for suffix in ("", "-wal"):
            with open(recorded.path + suffix, "r+b") as file:
                file.write(os.urandom(os.fstat(file.fileno()).st_size))
    else:
        for suffix in ("", "-wal"):
            os.truncate(recorded.path + suffix, 100)
    recorded.store.close()
    recorded.close_some(3, first=9000)
    until(lambda: recorded.flush() is not None and figures.up and figures.queued == 0, "a new file", seconds=20)
    assert figures.set_aside == 1 and "set_aside" in figures.notes
    assert [one.view.client.port for one in recorded.flows()] == [9000, 9001, 9002]


def test_a_file_found_broken_by_a_reader(recorded: RecordedAccounting) -> None:
    recorded.close_some(3)
    recorded.flush()
    recorded.writer.suspect(HistoryError("page 7", reason="corrupt"))
    until(lambda: recorded.writer.figures.set_aside == 1 and recorded.writer.figures.up, "a new file")


def test_a_missing_folder(tmp_path: Path) -> None:
    recorded = RecordedAccounting(tmp_path / "missing" / "history.db")
    figures = recorded.writer.figures
    assert not figures.up and "cannot_open" in figures.notes["file"]
    recorded.close_some(2)
    (tmp_path / "missing").mkdir()
    until(lambda: recorded.flush() is not None and figures.queued == 0, "the file is written again", seconds=20)
    recorded.stop()
    assert len(recorded.flows()) == 2


@needs_root
@pytest.mark.kernel
@pytest.mark.parametrize("fault", ["disk_full", "read_only"])
def test_a_full_or_read_only_disk(tmp_path: Path, fault: str) -> None:
    """A real file system of 1 MiB in a mount namespace of its own: see tests/support/full_disk.py."""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", "tests.support.full_disk", fault, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_queued_rows_are_copies(recorded: RecordedAccounting) -> None:
    recorded.close_some(5)
    recorded.day(*(replace(FLOW, client_port=n, id=n) for n in range(70, 75)))  # the rows are used again
    recorded.flush()
    assert {one.view.client.port for one in recorded.flows()} == {1, 2, 3, 4, 5}
