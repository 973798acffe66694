"""History's thread, handed real rows of a flow table: what is kept, and which faults cost what."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flowmap.attribute.answers.intervals import Change, OwnershipInterval, fold
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question, Shape
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Finish, GiveUp
from flowmap.errors import HistoryError
from flowmap.flows.batch import Flag, RecordKind
from flowmap.history.clock import boot
from flowmap.history.file import Limits
from flowmap.history.matching import Wanted
from flowmap.history.reader import HistoryReader, KeptFlow
from flowmap.history.writer import HistoryWriter
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import State
from tests.engine.test_accounting import Day
from tests.support.accounting import books_for
from tests.support.closed_flows import X, Y
from tests.support.netns import needs_root
from tests.support.records import Record, replace
from tests.support.scripted_source import until

LIMITS = Limits(retain=1e9, max_size=4 << 20)
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))
EVER = Wanted(-1e12, 1e12)
EPOCH = 1_700_000_000.0


class House:
    """Books whose journal is a historian with a clock that can be set."""

    def __init__(self, path: Path, accounting: FlowAccounting | None = None, **options: object) -> None:
        self.path, self.epoch = str(path), EPOCH
        self.history_writer = HistoryWriter(
            self.path,
            LIMITS,
            source="scripted",
            epoch=lambda: self.epoch,
            **options,  # type: ignore[arg-type]
        )
        self.known = self.history_writer.open()
        self.day = Day(accounting or books_for())
        self.day.accounting._journal = self.history_writer
        self.history_writer.start()

    def stop(self) -> None:
        self.history_writer.stop()
        self.history_writer.join(10)
        assert not self.history_writer.is_alive()

    def flush(self) -> int | None:
        return self.history_writer.flush().result(10)

    def flows(self) -> list[KeptFlow]:
        history_reader = HistoryReader(self.path, peer_name=str, translated_ends=True)
        return list(history_reader.flows(EVER, 1000).flows)[::-1]

    def close_some(self, count: int, first: int = 1) -> None:
        """So many flows that are over and named."""
        records = [replace(FLOW, client_port=n, id=n) for n in range(first, first + count)]
        self.day(*records)
        self.day.answer(X, after=100)  # when all that was asked before is due again
        self.day(*(replace(record, kind=RecordKind.CLOSED, counters=(5, 6, 1, 2)) for record in records))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "history.db")
    yield made
    made.stop()


def test_every_decided_flow_is_kept_when_it_leaves(house: House) -> None:
    day = house.day
    day(FLOW)
    day.answer(X)
    day(replace(FLOW, kind=RecordKind.CLOSED, counters=(500, 70, 5, 1)))  # decided before it ended
    other = replace(FLOW, client="10.0.0.2", id=2, translated=("10.0.0.9", 1, "10.2.0.1", 2))
    day(other, replace(other, kind=RecordKind.CLOSED, counters=(9, 8, 7, 6)))
    assert len(day.accounting.table) == 1, "it waits"
    house.flush()
    assert len(house.flows()) == 1
    day.accounting.apply(GiveUp(day.now + 1, day.now))  # decided after it ended
    house.flush()
    first, second = house.flows()
    assert (first.view.state, first.view.deployments[0].owner, first.view.transmit_bytes) == (State.ATTRIBUTED, X, 500)
    assert {piece.rule for piece in first.evidence} == {"inside"}
    assert (second.view.state, second.view.deployments, second.cause) == (State.FAILED, (), second.cause)
    assert second.cause
    assert second.view.translated is not None and second.view.translated[1].port == 2
    start, end = first.view.started_at, first.view.ended_at
    assert start is not None and end is not None and EPOCH + 1000 < start < end <= EPOCH + day.now
    assert house.history_writer.figures.written == 2


def test_ignored_flows_are_not_kept_and_open_ones_at_the_end_are(tmp_path: Path) -> None:
    house = House(tmp_path / "history.db", books_for(exclude=("tcp/53",)))
    house.day(replace(FLOW, server_port=53, id=9), replace(FLOW, server_port=53, id=9, kind=RecordKind.CLOSED))
    house.day(FLOW, replace(FLOW, client_port=2, id=2))
    house.day.answer(X)
    house.day(replace(FLOW, client_port=3, id=3))
    house.day.accounting.apply(Finish())
    house.stop()
    flows = house.flows()
    assert {one.view.client.port for one in flows} == {40000, 2}, "those without a decision are nobody's past"
    assert all(one.view.ended_at is None for one in flows)


def test_a_flow_given_up_for_want_of_room_has_failed(tmp_path: Path) -> None:
    house = House(tmp_path / "history.db", books_for(max_flows=2))
    for port in (1, 2):
        house.day(replace(FLOW, client_port=port, id=port, kind=RecordKind.CLOSED, counters=(port, port, 1, 1)))
    house.day(replace(FLOW, client_port=3, id=3))
    house.stop()
    (only,) = house.flows()
    assert (only.view.state, only.cause) == (State.FAILED, "shed: the flow table is full (collect.max_flows)")


def test_a_full_queue_loses_what_comes_last_and_counts_it(tmp_path: Path) -> None:
    house = House(tmp_path / "history.db", max_queued=10, flush_every=60.0)
    house.close_some(25)
    assert house.history_writer.figures.queued == 10
    assert house.history_writer.figures.lost == {"queue_full": 15}
    house.stop()
    assert [one.view.client.port for one in house.flows()] == list(range(1, 11))
    assert house.history_writer.figures.queued == 0


def test_numbers_of_a_flush_tell_earlier_from_later(house: House) -> None:
    house.close_some(3)
    assert house.flush() == 4
    house.close_some(2, first=10)
    assert house.flush() == 6


def question() -> Question:
    return Question("ns", Shape.CLIENT, Endpoint(Address.parse("10.0.0.1"), 0), None)


def confirm(house: House, known: OwnershipInterval | None, at: float, *owners: object) -> OwnershipInterval:
    change = fold(known, Answer(at, at + 0.5, frozenset(owners)))  # type: ignore[arg-type]
    house.history_writer.confirmed(question(), change)
    return change.current


@pytest.mark.parametrize("reboot", [False, True])
def test_ranges_come_back_after_a_restart(tmp_path: Path, reboot: bool) -> None:
    house = House(tmp_path / "history.db")
    assert house.known == []
    first = confirm(house, None, 1000.0, X)
    first = confirm(house, first, 1060.0, X)
    house.flush()
    house.epoch += 5000.0  # the wall clock is set; all of a range that goes on moves with it
    first = confirm(house, first, 1120.0, X)
    house.stop()
    again = House(tmp_path / "history.db")
    if reboot:  # then only the wall clock can tell
        again.stop()
        again.history_writer = HistoryWriter(again.path, LIMITS, source="scripted", epoch=lambda: EPOCH)
        again.history_writer._boot += 1
        ((_, known),) = again.history_writer.open()
        assert known.last_arrived == pytest.approx(first.last_arrived + 5000.0)
        again.history_writer.start()
    else:
        ((_, known),) = again.known
        assert known == first._replace(owners=known.owners)
        house.epoch = EPOCH + 77.0
    widened = confirm(again, known, known.last_asked + 60, X)
    confirm(again, widened, known.last_asked + 120, Y)
    again.stop()
    with closing(sqlite3.connect(again.path)) as database:
        found = database.execute("SELECT first_asked, last_asked, answers, closed_by FROM span ORDER BY id").fetchall()
    assert [(answers, why) for _, _, answers, why in found] == [(4, "denied"), (1, None)], "it went on, and then ended"
    assert all(begun <= ended for begun, ended, _, _ in found)


def test_contradictions_change_no_range(house: House) -> None:
    first = confirm(house, None, 1000.0, X)
    house.history_writer.confirmed(question(), Change(first, contradicted=True))
    house.flush()
    assert house.history_writer.figures.ranges_written == 1


def lost_and_found(house: House, mend: object, *, reason: str) -> None:
    """While the file cannot be written, flows wait, and the daemon goes on; then it goes on writing by itself."""
    figures = house.history_writer.figures
    house.history_writer._retry_at = 0.0
    house.close_some(3)
    house.flush()
    until(lambda: not figures.up, f"the fault is noticed: {figures.notes}")
    assert reason in figures.notes["file"] and figures.queued == 3
    mend()  # type: ignore[operator]
    house.history_writer._retry_at = 0.0
    until(lambda: house.flush() is not None and figures.queued == 0, f"it goes on: {figures.notes}", seconds=20)
    assert figures.up and "file" not in figures.notes and not figures.lost
    assert len(house.flows()) >= 3


def test_a_lock_of_another_process(house: House) -> None:
    code = (
        "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None); d.execute('BEGIN IMMEDIATE');"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, house.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        lost_and_found(house, lambda: other.communicate(), reason="locked")


@pytest.mark.parametrize("garble", ["head", "cut"])
def test_a_file_that_breaks_while_it_is_open_is_replaced(house: House, garble: str) -> None:
    figures = house.history_writer.figures
    for n in range(5):
        house.close_some(20, first=1 + 100 * n)
        house.flush()
    if garble == "head":
        for suffix in ("", "-wal"):
            with open(house.path + suffix, "r+b") as file:
                file.write(os.urandom(8192))
    else:
        for suffix in ("", "-wal"):
            os.truncate(house.path + suffix, 100)
    house.history_writer._store.close()
    house.close_some(3, first=9000)
    until(lambda: house.flush() is not None and figures.up and figures.queued == 0, "a new file", seconds=20)
    assert figures.set_aside == 1 and "set_aside" in figures.notes
    assert [one.view.client.port for one in house.flows()] == [9000, 9001, 9002]


def test_a_reader_that_finds_the_file_broken_has_it_replaced(house: House) -> None:
    house.close_some(3)
    house.flush()
    house.history_writer.suspect(HistoryError("page 7", reason="corrupt"))
    until(lambda: house.history_writer.figures.set_aside == 1 and house.history_writer.figures.up, "a new file")


def test_a_daemon_that_cannot_open_its_file_lives_and_goes_on_trying(tmp_path: Path) -> None:
    house = House(tmp_path / "missing" / "history.db")
    figures = house.history_writer.figures
    assert not figures.up and "cannot_open" in figures.notes["file"]
    house.close_some(2)
    (tmp_path / "missing").mkdir()
    house.history_writer._retry_at = 0.0
    until(lambda: house.flush() is not None and figures.queued == 0, "it goes on", seconds=20)
    house.stop()
    assert len(house.flows()) == 2


@needs_root
@pytest.mark.kernel
@pytest.mark.parametrize("fault", ["disk_full", "read_only"])
def test_a_disk_that_is_full_or_read_only(tmp_path: Path, fault: str) -> None:
    """A real file system of 1 MiB in a mount namespace of its own: see tests/support/full_disk.py."""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", "tests.support.full_disk", fault, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_handover_costs_the_writer_is_a_copy(house: House) -> None:
    columns = house.day.accounting.table.columns
    before = {name: np.array(value) for name, value in vars(columns).items()}
    house.close_some(5)
    taken = list(house.history_writer._queue)
    house.day(replace(FLOW, client_port=77, id=77))  # rows are used again
    house.flush()
    assert {one.view.client.port for one in house.flows()} == {1, 2, 3, 4, 5}
    assert all(not np.shares_memory(part, before["ports"]) for handed in taken for part in handed.columns.values())


def test_a_boot_that_cannot_be_told_is_never_taken_for_the_same(tmp_path: Path) -> None:
    assert boot() == boot()
    unknown = tmp_path / "boot_id"
    assert boot(unknown) != boot(unknown)
    unknown.write_text("not-a-number\n")
    assert boot(unknown) != boot(unknown)
    assert 0 <= boot(unknown) < 1 << 63
