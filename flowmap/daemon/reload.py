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
from flowmap.config import Config, ControlPlaneConfig
from flowmap.config.loading import LoadedConfig
from flowmap.config.reloading import changed, live
from flowmap.control.alibaba.credentials.base import CredentialsProvider
from flowmap.control.alibaba.http.route import Route
from flowmap.daemon.clients import catalog_label, control_route, credentials_provider, query_timeout
from flowmap.daemon.wiring import Pipeline
from flowmap.errors import ConfigError, FlowmapError, describe_defect

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
    label, keys = catalog_label(new.control_plane), new_credentials(pipeline, old.control_plane, new.control_plane)
    plane, engine, route = new.control_plane, pipeline.engine, new_route(old.control_plane, new.control_plane)

    def on_writer() -> None:
        engine.budget.configure(rate=plane.rate, burst=plane.burst, max_in_flight=plane.max_in_flight)
        engine.configure(new)
        pipeline.source.configure(new.collect)

    def on_loop() -> None:
        pipeline.client.configure(timeout=plane.timeout, credentials=keys)
        if route is not None:
            pipeline.client.transport.configure(route)
        pipeline.catalog.configure(every=plane.catalog.refresh, label=label)
        pipeline.backend.configure(timeout=query_timeout(new), stale_for=new.attribute.stale_for)
        pipeline.exposition.set_deployment_labels(new.export.deployment_labels)
        logs.set_up(new.log.level, new.log.format)

    return on_writer, on_loop


def new_route(old: ControlPlaneConfig, new: ControlPlaneConfig) -> Route | None:
    """The route from now on; None where it stays. A file of authorities is read again: it may have been renewed."""
    route = control_route(new)
    same = all(getattr(old, key) == getattr(new, key) for key in ("proxy_url", "proxy_from_environment", "tls"))
    return None if same and route.tls is None else route


def new_credentials(pipeline: Pipeline, old: ControlPlaneConfig, new: ControlPlaneConfig) -> CredentialsProvider | None:
    """Keys to use from now on; None where those in use stay: temporary ones are still good while nothing changed."""
    if old.credentials == new.credentials and new.credentials.access_key_id is None:
        return None
    return credentials_provider(new, pipeline.client.transport)
