"""History files with their writers and readers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from flowmap.export.peers import Peers
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.history.file import Limits
from flowmap.history.reader import HistoryReader
from flowmap.history.store import HistoryStore
from flowmap.history.stored import StoredFlow
from flowmap.history.writer import HistoryWriter
from flowmap.model.address import Address
from flowmap.model.views import Connection, FlowFilter
from tests.support.accounting import accounting_for
from tests.support.accounting_run import AccountingRun
from tests.support.closed_flows import NOW, Flow, X, closed
from tests.support.records import Record, replace
from tests.support.scripted_source import until

HISTORY_LIMITS = Limits(retain=1e9, max_size=16 << 20)
LIMITS = Limits(retain=1e9, max_size=4 << 20)
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))
EVER = FlowFilter()
EPOCH = 1_700_000_000.0


class History:
    """A history file, open for writing and for reading."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.store = HistoryStore(path, HISTORY_LIMITS)
        self.store.open()
        self.reader = HistoryReader(
            path, peer_name=Peers({"kafka": ["10.1.0.1:9092"]}).name, translated_ends=True, seconds=5.0
        )

    def write(self, *flows: Flow) -> None:
        self.store.write(closed(*flows), (), now=NOW)

    def at(self, moment: float, client_port: int | None = 40000, server: str = "10.1.0.1") -> list[bool]:
        wanted = Connection(Address.parse("10.0.0.1"), client_port, Address.parse(server), 9092, 6)
        return [one.sure for one in self.reader.at(wanted, moment)]


class RecordedAccounting:
    """A flow accounting with a history writer as its journal, and a wall clock that can be set."""

    def __init__(self, path: Path, *, accounting: Mapping[str, Any] | None = None, **options: Any) -> None:
        """``accounting``: options of the accounting; ``options``: those of the writer."""
        self.path, self.epoch = str(path), EPOCH
        stores: list[HistoryStore] = []

        def kept(*arguments: Any) -> HistoryStore:
            stores.append(HistoryStore(*arguments))
            return stores[-1]

        with mock.patch("flowmap.history.writer.HistoryStore", kept):
            self.writer = HistoryWriter(
                self.path, LIMITS, source="scripted", retry_first=0.05, epoch=lambda: self.epoch, **options
            )
        (self.store,) = stores
        self.known = self.writer.open()
        self.day = AccountingRun(accounting_for(**(accounting or {}), journal=self.writer))
        self.writer.start()

    def stop(self) -> None:
        self.writer.stop()
        self.writer.join(10)
        assert not self.writer.is_alive()

    def flush(self) -> int | None:
        return self.writer.flush().result(10)

    def flows(self) -> list[StoredFlow]:
        history_reader = HistoryReader(self.path, peer_name=str, translated_ends=True)
        return list(history_reader.flows(EVER, 1000).flows)[::-1]

    def close_some(self, count: int, first: int = 1) -> None:
        """Close so many flows with an owner."""
        records = [replace(FLOW, client_port=n, id=n) for n in range(first, first + count)]
        self.day(*records)
        self.day.answer(X, after=100)  # all earlier questions are due again
        self.day(*(replace(record, kind=RecordKind.CLOSED, counters=(5, 6, 1, 2)) for record in records))


def fail_and_recover(recorded: RecordedAccounting, mend: object, *, reason: str) -> None:
    """While the file cannot be written, flows wait; afterwards they are written without help."""
    figures = recorded.writer.figures
    recorded.close_some(3)
    recorded.flush()
    until(lambda: not figures.up, f"the fault is noticed: {figures.notes}")
    assert reason in figures.notes["file"] and figures.queued == 3
    mend()  # type: ignore[operator]
    until(lambda: recorded.flush() is not None and figures.queued == 0, f"it goes on: {figures.notes}", seconds=20)
    assert figures.up and "file" not in figures.notes and not figures.lost
    assert len(recorded.flows()) >= 3
