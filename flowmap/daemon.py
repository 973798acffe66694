"""The daemon's life: start, readiness, signals, ordered end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from flowmap import logs
from flowmap.config import Config
from flowmap.errors import ConfigError, FlowmapError
from flowmap.pipeline import Pipeline, build

log = logging.getLogger(__name__)

EXIT_OK, EXIT_FAILURE, EXIT_CONFIG = 0, 1, 78
STOP_SECONDS = 4.0
"""Longest wait for the writer to take its last counters."""


def run(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0 stopped, 78 configuration, 1 failure."""
    logs.set_up(config.log.level, config.log.format)
    try:
        return asyncio.run(_main(config))
    except ConfigError as error:
        log.error("%s", error)
        return EXIT_CONFIG
    except FlowmapError as error:
        remedy = getattr(error, "remedy", "")
        log.error("%s%s", error, f" ({remedy})" if remedy else "")
        return EXIT_FAILURE


async def _main(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, number)
    loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP: this version cannot reload; restart it instead")
    pipeline = build(config)
    pipeline.source.open()
    try:
        await pipeline.server.start()
        pipeline.engine.start()
        pipeline.catalog.start()
        for note in pipeline.source.stats.notes.values():
            log.warning("%s: %s", pipeline.source.name, note)
        log.info("listening on %s, reading %s", pipeline.server.url, pipeline.source.name)
        ready = asyncio.create_task(_tell_when_ready(pipeline))
        await _until_stopped_or_failed(pipeline, stop)
        ready.cancel()
    finally:
        await _shut_down(pipeline)
    return EXIT_FAILURE if pipeline.engine.failure is not None else EXIT_OK


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():  # asked twice: at once
        raise SystemExit(EXIT_FAILURE)
    log.info("%s: stopping", signal.Signals(number).name)
    stop.set()


async def _tell_when_ready(pipeline: Pipeline) -> None:
    while not pipeline.backend.ready():
        await asyncio.sleep(0.05)
    log.info("ready")


async def _until_stopped_or_failed(pipeline: Pipeline, stop: asyncio.Event) -> None:
    while not stop.is_set() and pipeline.engine.is_alive():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 2.0)


async def _shut_down(pipeline: Pipeline) -> None:
    """Stop the source with its last counters taken, then the calls, then the server, so the last scrape is whole."""
    await pipeline.catalog.aclose()
    if pipeline.engine.is_alive():
        pipeline.engine.stop()
        await asyncio.to_thread(pipeline.engine.join, STOP_SECONDS)
    else:
        pipeline.source.close()
    await pipeline.asker.aclose()
    await pipeline.client.aclose()
    await pipeline.server.stop()
