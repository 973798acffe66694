"""Readiness, state and keep-alives sent to systemd."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from flowmap.control.port import ControlStatus
from flowmap.daemon import supervisor as watching
from flowmap.daemon.supervisor import Supervisor
from flowmap.model.source import SourceFacts, SourceStats
from flowmap.system.notify import Notifier


class RecordedNotifier(Notifier):
    """Records what is sent to systemd."""

    def __init__(self) -> None:
        super().__init__({"WATCHDOG_USEC": "2000000"})
        self.sent: list[str] = []

    def _send(self, *lines: str, timeout: float = 0.0) -> None:
        self.sent.append(lines[0].partition("=")[0] if lines[0].startswith(("WATCHDOG", "READY")) else lines[0])


class FakePipeline:
    """The parts of a pipeline that the supervisor checks."""

    def __init__(self) -> None:
        self.alive = self.serves = self.runs = self.is_healthy = True
        self.is_ready = False
        self.engine = SimpleNamespace(
            is_alive=lambda: self.alive, source_error=None, snapshot=SimpleNamespace(complete_reads=0)
        )
        self.source = SimpleNamespace(facts=SourceFacts("conntrack", "ip", announces_births=True), stats=SourceStats())
        self.store_checks: list[float] = []
        self.store = SimpleNamespace(check=self.store_checks.append)
        self.control_status = ControlStatus()
        self.control = SimpleNamespace(plane=SimpleNamespace(status=lambda: self.control_status))
        self.backend = SimpleNamespace(
            healthy=lambda: self.is_healthy, ready=lambda: self.is_ready, configuration_status=lambda: None
        )

    @property
    def server(self) -> Any:
        return SimpleNamespace(serves=self.serves)

    @property
    def catalog(self) -> Any:
        return SimpleNamespace(runs=self.runs)


def supervisor_of(parts: FakePipeline) -> tuple[Supervisor, RecordedNotifier]:
    notifier = RecordedNotifier()
    return Supervisor(parts, notifier), notifier  # type: ignore[arg-type]


def test_keep_alives_stop_while_the_engine_is_stalled() -> None:
    parts = FakePipeline()
    watch, notifier = supervisor_of(parts)
    for healthy, told in ((True, 1), (True, 2), (False, 2), (False, 2), (True, 3)):
        parts.is_healthy = healthy
        watch.check()
        assert notifier.sent.count("WATCHDOG") == told
    assert len(parts.store_checks) == 5
    assert "STATUS=reading conntrack; the first full read is not done" in notifier.sent


def test_ready_is_sent_once_and_after_a_time_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = FakePipeline()
    watch, notifier = supervisor_of(parts)
    watch.check()
    assert not watch.sent_ready
    parts.is_ready = True
    for _ in range(3):
        watch.check()
    assert (watch.sent_ready, notifier.sent.count("READY")) == (True, 1)
    late, notifier = supervisor_of(FakePipeline())
    monkeypatch.setattr(watching, "READY_AFTER", 0.0)
    late.check()
    assert (late.sent_ready, notifier.sent.count("READY")) == (True, 1)


def test_the_state_says_what_is_wrong() -> None:
    parts = FakePipeline()
    watch, _ = supervisor_of(parts)
    parts.engine.snapshot.complete_reads = 1
    assert watch.state() == "reading conntrack; waiting for the first answer"
    parts.engine.source_error = "no buffer"
    parts.control_status = ControlStatus(breaker_open=True)
    parts.backend.configuration_status = lambda: SimpleNamespace(last_error="x")
    assert watch.state() == (
        "conntrack is down: no buffer; waiting for the first answer; calls to the control plane are suspended; "
        "the last reload was rejected"
    )
    parts.is_healthy = False
    assert watch.state() == "engine stalled"


def test_degradations_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    parts = FakePipeline()
    watch, _ = supervisor_of(parts)
    caplog.set_level("INFO")
    for notes in ({"table": "full"}, {}):
        parts.source.stats.notes = notes
        watch.check()
    assert caplog.messages == ["conntrack: table: full", "conntrack: table: resolved"]


@pytest.mark.parametrize(
    ("name", "said"), [("alive", "the engine"), ("serves", "the HTTP server"), ("runs", "the catalog")]
)
def test_run_ends_when_a_worker_has_stopped(name: str, said: str) -> None:
    parts = FakePipeline()
    watch, _ = supervisor_of(parts)
    assert watch.dead() == []

    async def run() -> None:
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        assert not task.done()
        setattr(parts, name, False)
        await asyncio.wait_for(task, 10)

    asyncio.run(run())
    assert watch.dead() == [said]
