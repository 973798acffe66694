"""A history file that is written from a real accounting."""

from __future__ import annotations

from pathlib import Path

from flowmap.engine.accounting import FlowAccounting
from flowmap.flows.batch import Flag, RecordKind
from flowmap.history.file import Limits
from flowmap.history.matching import Wanted
from flowmap.history.reader import HistoryReader, KeptFlow
from flowmap.history.writer import HistoryWriter
from tests.support.accounting import books_for
from tests.support.audited_accounting import AuditedAccounting
from tests.support.closed_flows import X
from tests.support.records import Record, replace
from tests.support.waiting import until

LIMITS = Limits(retain=1e9, max_size=4 << 20)
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))
EVER = Wanted(-1e12, 1e12)
EPOCH = 1_700_000_000.0


class WrittenHistory:
    """An accounting whose journal is a history writer with a clock that can be set."""

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
        self.day = AuditedAccounting(accounting or books_for())
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
        """Open, attribute and close ``count`` flows."""
        records = [replace(FLOW, client_port=n, id=n) for n in range(first, first + count)]
        self.day(*records)
        self.day.answer(X, after=100)  # earlier questions are due again
        self.day(*(replace(record, kind=RecordKind.CLOSED, counters=(5, 6, 1, 2)) for record in records))


def check_recovery(house: WrittenHistory, mend: object, *, reason: str) -> None:
    """Flows wait while the file cannot be written; after ``mend`` the writer continues by itself."""
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
