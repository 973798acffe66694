"""An engine over a source and a resolver that a test plays."""

from __future__ import annotations

import time
from typing import Any

from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.engine import Engine
from flowmap.export.snapshot import Snapshot
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.scripted_source import ScriptedResolver, ScriptedSource

READ = (ReadStarted("start"), ReadFinished(True))


def snapshot_of(accounting: FlowAccounting) -> Snapshot:
    return Snapshot(
        observed_transmit_bytes=accounting.observed[0],
        observed_receive_bytes=accounting.observed[1],
        pending_transmit_bytes=accounting.pending[0],
        pending_receive_bytes=accounting.pending[1],
        open_flows=accounting.table.open_flows,
        series_table=accounting.series_table.freeze(),
    )


class Running:
    """An engine with all it needs."""

    def __init__(self, *, rate: float = 1000.0, burst: int = 100, max_in_flight: int = 100, **options: Any) -> None:
        """``options``: those of the engine."""
        self.source, self.resolver = ScriptedSource(), ScriptedResolver()
        self.accounting = accounting_for(AttributionSettings(namespaces=("ns",)), max_flows=5000)
        self.budget = CallBudget(rate=rate, burst=burst, max_in_flight=max_in_flight)
        self.engine = Engine(
            self.accounting,
            self.source,
            self.budget,
            ask=self.resolver.start,
            take_snapshot=snapshot_of,
            **options,
        )
        self.source.open()

    def start(self) -> Running:
        self.source.hand(*READ)
        self.engine.start()
        return self

    def stop(self) -> Snapshot:
        self.engine.stop()
        self.engine.join(10)
        assert not self.engine.is_alive()
        return self.engine.snapshot

    def catch_up(self) -> None:
        self.source.hand(CaughtUp(time.monotonic()))
