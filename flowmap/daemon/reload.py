"""Taking over another configuration while the daemon runs: all of it or nothing.

What can fail happens first: reading the file, making the parts. Then the writer takes its share between two of its
turns, and the event loop the rest; nothing of that can fail.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from flowmap import logs
from flowmap.config import Config
from flowmap.config.loading import LoadedConfig
from flowmap.config.reloading import changed, live
from flowmap.daemon.clients import query_timeout
from flowmap.daemon.wiring import Pipeline
from flowmap.errors import ConfigError, FlowmapError, describe_defect
from flowmap.sources.choice import retime

log = logging.getLogger(__name__)

WRITER_SECONDS = 10.0
"""Longest wait for the writer to come to a configuration."""

Reread = Callable[[], LoadedConfig]
"""Reads file and environment again; ConfigError for what cannot be used."""


class Reloader:
    """The configuration in force, and how it is replaced. Lives in the event loop."""

    def __init__(self, pipeline: Pipeline, config: Config, reread: Reread, *, file: str | None = None) -> None:
        self.config = config
        self.error: str | None = None
        """Why the last reload was refused; None if it was taken over."""
        self._pipeline = pipeline
        self._reread = reread
        self._file = file
        self._reloads = 0
        self._taken_at = time.time()

    def status(self) -> dict[str, object]:
        """Facts for the status answer."""
        return {
            "pid": os.getpid(),
            "file": self._file,
            "reloads": self._reloads,
            "lastReloadSuccessful": self.error is None,
            "taken_over_at": self._taken_at,
            "lastError": self.error,
        }

    async def reload(self) -> bool:
        """Read the configuration again and take it over; False, and nothing changed, if that cannot be."""
        try:
            loaded = await asyncio.to_thread(self._reread)
            keys = tuple(changed(self.config, loaded.config))
            refuse_fixed(keys, loaded)
            await self._take(loaded.config)
        except FlowmapError as error:
            self.error = str(error)
            for line in self.error.splitlines():
                log.error("reload refused, the configuration in force stays: %s", line)
        except Exception as error:  # a defect must not end a daemon that works
            self.error = describe_defect(error)
            log.exception("reload refused, the configuration in force stays")
        else:
            self.error, self._taken_at = None, time.time()
            log.info("configuration taken over; changed: %s", ", ".join(keys) or "nothing")
        self._reloads += 1
        self._pipeline.exposition.metrics.set_reload(self.error is None)
        return self.error is None

    async def _take(self, config: Config) -> None:
        on_writer, on_loop = prepare(self._pipeline, self.config, config)
        future = self._pipeline.engine.call(on_writer)
        taken = asyncio.wrap_future(future)
        # Not wait_for: it may swallow the cancellation of this task, which then never ends.
        done, _ = await asyncio.wait({taken}, timeout=WRITER_SECONDS)
        if not done and future.cancel():
            raise FlowmapError("the writer is busy; try again")
        await taken  # what has begun will be done
        on_loop()
        self.config = config


def refuse_fixed(keys: tuple[str, ...], loaded: LoadedConfig) -> None:
    """ConfigError if a key changed that cannot change while the daemon runs."""
    fixed = [key for key in keys if live(key) is None]
    if fixed:
        raise ConfigError(
            "\n".join(": ".join(filter(None, (loaded.place(key), key, "needs a restart"))) for key in fixed)
        )


def prepare(pipeline: Pipeline, old: Config, new: Config) -> tuple[Callable[[], None], Callable[[], None]]:
    """What the writer and what the event loop has to do; ConfigError or AuthError for what cannot be used."""
    plane, engine = new.control_plane, pipeline.engine
    configure_control = pipeline.control.prepare(old.control_plane, plane)

    def on_writer() -> None:
        engine.budget.configure(rate=plane.rate, burst=plane.burst, max_in_flight=plane.max_in_flight)
        engine.configure(new)
        retime(pipeline.source, new.collect)

    def on_loop() -> None:
        configure_control()
        pipeline.catalog.configure(every=plane.catalog.refresh)
        pipeline.backend.configure(timeout=query_timeout(new), stale_for=new.attribute.stale_for)
        pipeline.exposition.set_deployment_labels(new.export.deployment_labels)
        logs.set_up(new.log.level, new.log.format)

    return on_writer, on_loop
