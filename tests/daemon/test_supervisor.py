"""When systemd is told that all is well, and when not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from flowmap.control.port import ControlStatus
from flowmap.daemon import supervisor as watching
from flowmap.daemon.supervisor import Supervisor
from flowmap.sources.base import SourceStats
from flowmap.system.notify import Notifier


class Ears(Notifier):
    """Notes what systemd would be told."""

    def __init__(self) -> None:
        super().__init__({"WATCHDOG_USEC": "2000000"})
        self.heard: list[str] = []

    def _send(self, *lines: str, patience: float = 0.0) -> None:
        self.heard.append(lines[0].partition("=")[0] if lines[0].startswith(("WATCHDOG", "READY")) else lines[0])


class Parts:
    """A pipeline as far as it is looked at."""

    def __init__(self) -> None:
        self.alive = self.serves = self.runs = self.is_healthy = True
        self.is_ready = False
        self.engine = SimpleNamespace(
            is_alive=lambda: self.alive, source_error=None, accounting=SimpleNamespace(complete_reads=0)
        )
        self.source = SimpleNamespace(name="conntrack", stats=SourceStats())
        self.control_status = ControlStatus()
        self.control = SimpleNamespace(plane=SimpleNamespace(status=lambda: self.control_status))
        self.backend = SimpleNamespace(
            healthy=lambda: self.is_healthy, ready=lambda: self.is_ready, configuration_status=dict
        )

    @property
    def server(self) -> Any:
        return SimpleNamespace(serves=self.serves)

    @property
    def catalog(self) -> Any:
        return SimpleNamespace(runs=self.runs)


def looked_at(parts: Parts) -> tuple[Supervisor, Ears]:
    ears = Ears()
    return Supervisor(parts, ears), ears  # type: ignore[arg-type]


def test_the_watchdog_is_fed_only_while_the_writer_makes_progress() -> None:
    parts = Parts()
    watch, ears = looked_at(parts)
    for healthy, told in ((True, 1), (True, 2), (False, 2), (False, 2), (True, 3)):
        parts.is_healthy = healthy
        watch._look()
        assert ears.heard.count("WATCHDOG") == told
    assert "STATUS=reading conntrack; the first full read is not done" in ears.heard


def test_ready_is_told_once_and_at_last_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    watch, ears = looked_at(parts)
    watch._look()
    assert not watch.told_ready
    parts.is_ready = True
    for _ in range(3):
        watch._look()
    assert (watch.told_ready, ears.heard.count("READY")) == (True, 1)
    late, ears = looked_at(Parts())
    monkeypatch.setattr(watching, "READY_AFTER", 0.0)
    late._look()
    assert (late.told_ready, ears.heard.count("READY")) == (True, 1)


def test_the_state_says_what_is_wrong() -> None:
    parts = Parts()
    watch, _ = looked_at(parts)
    parts.engine.accounting.complete_reads = 1
    assert watch.state() == "reading conntrack; waiting for the first answer"
    parts.engine.source_error = "no buffer"
    parts.control_status = ControlStatus(breaker_open=True)
    parts.backend.configuration_status = lambda: {"lastError": "x"}
    assert watch.state() == (
        "conntrack is down: no buffer; waiting for the first answer; the control plane keeps failing; "
        "the last reload was refused"
    )
    parts.is_healthy = False
    assert watch.state() == "the writer hangs"


def test_what_a_source_complains_of_is_logged_as_it_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts()
    watch, _ = looked_at(parts)
    caplog.set_level("INFO")
    for notes in ({"table": "full"}, {}):
        parts.source.stats.notes = notes
        watch._look()
    assert caplog.messages == ["conntrack: table: full", "conntrack: table: that is over"]


@pytest.mark.parametrize(
    ("name", "said"), [("alive", "the writer"), ("serves", "the HTTP server"), ("runs", "the catalog")]
)
def test_a_worker_that_ended_ends_the_watch(name: str, said: str) -> None:
    parts = Parts()
    watch, _ = looked_at(parts)
    assert watch.dead() == []

    async def run() -> None:
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        assert not task.done()
        setattr(parts, name, False)
        await asyncio.wait_for(task, 10)

    asyncio.run(run())
    assert watch.dead() == [said]
