"""Supervision: notices workers that stop, sends readiness, state and watchdog keep-alives to systemd."""

from __future__ import annotations

import asyncio
import logging
import time

from flowmap.daemon.source_log import SourceLog
from flowmap.daemon.wiring import Pipeline
from flowmap.query.asking import HANGS_AFTER
from flowmap.sources.combined import names, parts
from flowmap.system.notify import Notifier

log = logging.getLogger(__name__)

CHECK_EVERY = 0.5
"""Seconds between two checks; a stopped worker is noticed within this."""
STATUS_EVERY = 10.0
"""Seconds between two lines of state."""
READY_AFTER = 30.0
"""Seconds after which ``READY=1`` is sent even if the daemon is not ready: systemd would kill it otherwise. It serves
already, and /-/ready and the line of state give what is missing."""


class Supervisor:
    """Checks the parts of a pipeline regularly, in its event loop."""

    def __init__(self, pipeline: Pipeline, notifier: Notifier) -> None:
        self.sent_ready = False
        """Whether ``READY=1`` was sent."""
        self._pipeline = pipeline
        self._notifier = notifier
        self._source_log = SourceLog(parts(pipeline.source))
        self._started_at = time.monotonic()
        self._sent_at = float("-inf")
        self._was_ready = False
        self._stalled = False

    def dead(self) -> list[str]:
        """Workers that have stopped. The daemon cannot work without them."""
        parts = {
            "the engine": self._pipeline.engine.is_alive(),
            "the HTTP server": self._pipeline.server.serves,
            "the catalog": self._pipeline.catalog.runs,
        }
        return [name for name, alive in parts.items() if not alive]

    async def run(self) -> None:
        """Run until a worker has stopped."""
        while not self.dead():
            self.check()
            await asyncio.sleep(min(CHECK_EVERY, (self._notifier.watchdog or 1.0) / 4))

    def state(self) -> str:
        """One line for ``systemctl status``."""
        pipeline = self._pipeline
        if not pipeline.backend.healthy():
            return "engine stalled"
        error = pipeline.engine.source_error
        parts = [f"{pipeline.source.facts.name} is down: {error}" if error else f"reading {names(pipeline.source)}"]
        if not self._was_ready:
            read = pipeline.engine.snapshot.complete_reads
            parts.append("waiting for the first answer" if read else "the first full read is not done")
        if pipeline.control.plane.status().breaker_open:
            parts.append("calls to the control plane are suspended")
        configuration = pipeline.backend.configuration_status()
        if configuration is not None and configuration.last_error:
            parts.append("the last reload was rejected")
        return "; ".join(parts)

    def check(self) -> None:
        """Check all parts once, log what changed and report to systemd."""
        now = time.monotonic()
        self._source_log.check(now)
        if self._pipeline.store is not None:
            self._pipeline.store.check(now)
        ready = self._pipeline.backend.ready()
        if ready and not self._was_ready:
            self._was_ready = True
            log.info("ready")
        if not self.sent_ready and (ready or now - self._started_at >= READY_AFTER):
            self.sent_ready = True
            self._notifier.ready(self.state())
        if now - self._sent_at >= STATUS_EVERY:
            self._sent_at = now
            self._notifier.status(self.state())
        stalled = not self._pipeline.backend.healthy()
        if stalled and not self._stalled:
            log.error("engine stalled: no progress for %g s; watchdog keep-alives stopped", HANGS_AFTER)
        self._stalled = stalled
        if not stalled:
            self._notifier.alive()
