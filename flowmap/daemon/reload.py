"""Reload: applies another configuration to the running daemon, all of it or nothing.

Every step that can fail comes first: reading the file and making new parts. Then the engine applies its share between
two turns and the event loop applies the rest. Neither can fail.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from flowmap import logs
from flowmap.config import Config, read_expectations
from flowmap.config.loading import LoadedConfig
from flowmap.config.reloading import changed, live
from flowmap.daemon.clients import query_timeout
from flowmap.daemon.wiring import Pipeline, limits_of, question_limits
from flowmap.errors import ConfigError, FlowmapError, describe_defect
from flowmap.model.status import ConfigurationStatus

log = logging.getLogger(__name__)

ENGINE_SECONDS = 10.0
"""Longest wait for the engine to apply a configuration."""

Reread = Callable[[], LoadedConfig]
"""Reads file and environment again; ConfigError if they are not valid."""


class Reloader:
    """Holds the running configuration and replaces it. Used in the event loop."""

    def __init__(self, pipeline: Pipeline, config: Config, reread: Reread, *, file: str | None = None) -> None:
        self.config = config
        self.error: str | None = None
        """Why the last reload was rejected; None if it was applied."""
        self._pipeline = pipeline
        self._reread = reread
        self._file = file
        self._reloads = 0
        self._applied_at = time.time()

    def status(self) -> ConfigurationStatus:
        """The running configuration, and the result of the last reload."""
        return ConfigurationStatus(
            pid=os.getpid(),
            file=self._file,
            reloads=self._reloads,
            last_reload_successful=self.error is None,
            applied_at=self._applied_at,
            last_error=self.error,
        )

    async def reload(self) -> bool:
        """Read the configuration again and apply it. Returns False, with nothing changed, if it is rejected."""
        try:
            loaded = await asyncio.to_thread(self._reread)
            keys = tuple(changed(self.config, loaded.config))
            refuse_fixed(keys, loaded)
            if self._pipeline.fleet is not None:
                keys += self._pipeline.fleet.changed_files(loaded.config)
            await self._apply(loaded.config)
        except FlowmapError as error:
            self.error = str(error)
            for line in self.error.splitlines():
                log.error("reload rejected, keeping the running configuration: %s", line)
        except Exception as error:  # a defect must not stop a working daemon
            self.error = describe_defect(error)
            log.exception("reload rejected, keeping the running configuration")
        else:
            self.error, self._applied_at = None, time.time()
            log.info("configuration reloaded; changed: %s", ", ".join(keys) or "nothing")
        self._reloads += 1
        self._pipeline.exposition.metrics.set_reload(self.error is None)
        return self.error is None

    async def _apply(self, config: Config) -> None:
        on_engine, on_loop = prepare(self._pipeline, self.config, config)
        future = self._pipeline.engine.call(on_engine)
        applied = asyncio.wrap_future(future)
        # wait_for may swallow the cancellation of this task, which then never ends.
        done, _ = await asyncio.wait({applied}, timeout=ENGINE_SECONDS)
        if not done and future.cancel():
            raise FlowmapError("the engine is busy; reload again")
        await applied  # it has begun and cannot be cancelled
        on_loop()
        self.config = config


def refuse_fixed(keys: tuple[str, ...], loaded: LoadedConfig) -> None:
    """ConfigError if a key changed that needs a restart."""
    fixed = [key for key in keys if live(key) is None]
    if fixed:
        raise ConfigError(
            "\n".join(": ".join(filter(None, (loaded.place(key), key, "needs a restart"))) for key in fixed)
        )


def prepare(pipeline: Pipeline, old: Config, new: Config) -> tuple[Callable[[], None], Callable[[], None]]:
    """The functions that apply ``new``, for the engine and for the event loop; ConfigError or AuthError."""
    plane, engine = new.control_plane, pipeline.engine
    configure_control = pipeline.control.prepare(old.control_plane, plane)
    configure_fleet = pipeline.fleet.configure(new) if pipeline.fleet is not None else lambda: None

    expectations = read_expectations(new.expect.file)
    with_peers = pipeline.peer_watch.configured(new)

    def on_engine() -> None:
        engine.budget.configure(**question_limits(new))
        engine.configure(with_peers)
        pipeline.source.configure(new.collect)

    def on_loop() -> None:
        configure_control()
        configure_fleet()
        pipeline.catalog.configure(every=plane.catalog.refresh)
        pipeline.backend.configure(timeout=query_timeout(new), stale_for=new.attribute.stale_for, limits=limits_of(new))
        pipeline.peer_watch.replace(new)
        pipeline.findings.configure(limits_of(new), expectations)
        pipeline.exposition.set_deployment_labels(new.export.deployment_labels)
        logs.set_up(new.log.level, new.log.format)

    return on_engine, on_loop
