"""Whether the daemon works, told to whoever watches it: its workers, systemd's watchdog, a line of state."""

from __future__ import annotations

import asyncio
import logging
import time

from flowmap.daemon.source_log import SourceLog
from flowmap.daemon.wiring import Pipeline
from flowmap.sources.combined import names, parts
from flowmap.system.notify import Notifier

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks; a dead worker is noticed within this."""
STATUS_EVERY = 10.0
READY_AFTER = 30.0
"""Seconds after which systemd is told that the service has started, though something still keeps it from being
ready: it serves, and says on /-/ready and in its state what it waits for. systemd would kill it instead."""


class Supervisor:
    """Looks after the parts of a pipeline, in its event loop."""

    def __init__(self, pipeline: Pipeline, notifier: Notifier) -> None:
        self.told_ready = False
        """Whether systemd knows that the service has started."""
        self._pipeline = pipeline
        self._notifier = notifier
        self._source_log = SourceLog(parts(pipeline.source))
        self._began = time.monotonic()
        self._told_at = float("-inf")
        self._was_ready = False
        self._hung = False

    def dead(self) -> list[str]:
        """Workers that ended by themselves: the daemon cannot go on without them."""
        parts = {
            "the writer": self._pipeline.engine.is_alive(),
            "the HTTP server": self._pipeline.server.serves,
            "the catalog": self._pipeline.catalog.runs,
        }
        return [name for name, lives in parts.items() if not lives]

    async def run(self) -> None:
        """Until a worker is dead."""
        while not self.dead():
            self._look()
            await asyncio.sleep(min(LOOK_EVERY, (self._notifier.watchdog or 1.0) / 4))

    def state(self) -> str:
        """One line for ``systemctl status``."""
        pipeline = self._pipeline
        if not pipeline.backend.healthy():
            return "the writer hangs"
        error = pipeline.engine.source_error
        parts = [f"{pipeline.source.name} is down: {error}" if error else f"reading {names(pipeline.source)}"]
        if not self._was_ready:
            read = pipeline.engine.accounting.complete_reads
            parts.append("waiting for the first answer" if read else "the first full read is not done")
        if pipeline.control.plane.status().breaker_open:
            parts.append("the control plane keeps failing")
        configuration = pipeline.backend.configuration_status()
        if configuration.get("lastError"):
            parts.append("the last reload was refused")
        return "; ".join(parts)

    def _look(self) -> None:
        now = time.monotonic()
        self._source_log.look(now)
        ready = self._pipeline.backend.ready()
        if ready and not self._was_ready:
            self._was_ready = True
            log.info("ready")
        if not self.told_ready and (ready or now - self._began >= READY_AFTER):
            self.told_ready = True
            self._notifier.ready(self.state())
        if now - self._told_at >= STATUS_EVERY:
            self._told_at = now
            self._notifier.status(self.state())
        hangs = not self._pipeline.backend.healthy()
        if hangs and not self._hung:
            log.error("the writer has made no progress for a while; the watchdog is no longer told that all is well")
        self._hung = hangs
        if not hangs:
            self._notifier.alive()
