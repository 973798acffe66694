"""The life of the daemon: start, privileges, signals, reload, and a shutdown in order within a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from flowmap import logs
from flowmap.config import Config
from flowmap.daemon.reload import Reloader, Reread
from flowmap.daemon.supervisor import Supervisor
from flowmap.daemon.textfile import OneRun, TextFile
from flowmap.daemon.wiring import Pipeline, build
from flowmap.errors import ConfigError, FlowmapError, QueryError, describe_defect
from flowmap.recording.recorder import CLOSE_SECONDS, RecordTo
from flowmap.sources.combined import names
from flowmap.sources.kinds import kept_capabilities
from flowmap.system import garbage, inherited, memory, privileges, proc
from flowmap.system.names import LOOKUPS
from flowmap.system.notify import Notifier, take_listener
from flowmap.system.workers import QUERY_THREADS, Workers, WorkersLoop, starting_threads

log = logging.getLogger(__name__)

EXIT_OK, EXIT_FAILURE, EXIT_CONFIG = 0, 1, 78
STOP_SECONDS = 4.5
"""Longest time from SIGTERM to the exit of the process."""
ENGINE_SECONDS = 3.0
"""Part of these in which the engine may read the last counters."""
SEND_SECONDS = 2.0
"""Part of these in which the last flows may be sent to the store."""
REST_SECONDS = 0.5
"""Part of these that is kept for the steps after the stop of the HTTP server."""
POLL_SECONDS = 0.01
"""Pause between two checks whether a thread has ended."""
UNLIMITED = OneRun()


def run(
    config: Config, reread: Reread, *, file: str | None = None, record: RecordTo | None = None, once: OneRun = UNLIMITED
) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status: 0 stopped, 78 invalid configuration, 1 failure.

    ``reread`` reads the configuration again for a reload. ``file``: its path, for messages. ``record``: the recording
    to write. ``once``: after which time to stop, and the metrics file to write.
    """
    logs.set_up(config.log.level, config.log.format)
    last_resort = _LastResort()
    try:
        faulthandler.enable(file=2)  # the watchdog sends SIGABRT; this prints the stacks of all threads
        inherited.own_files()
        privileges.harden()
        memory.give_back_large()
        workers = Workers("worker", QUERY_THREADS)
        with asyncio.Runner(loop_factory=lambda: WorkersLoop(workers)) as runner:
            return runner.run(_main(config, reread, file, record, once, last_resort, workers))
    except ConfigError as error:
        log.error("%s", error)
        return EXIT_CONFIG
    except FlowmapError as error:
        remedy = getattr(error, "remedy", "")
        log.error("%s%s", error, f" ({remedy})" if remedy else "")
        return EXIT_FAILURE
    except Exception as error:
        log.exception("stopping after an unexpected error: %s", describe_defect(error))
        return EXIT_FAILURE
    finally:
        last_resort.cancel()
        logs.close()


class _Signals:
    """Signal handlers. The first SIGTERM or SIGINT starts an ordered shutdown; a second one kills the process.

    asyncio's own handlers get signals through a socket that is full after about 300 of them, so many SIGHUPs would
    lose a later SIGTERM. These handlers run between any two instructions and must not take a lock.
    """

    def __init__(self, on_stop: Callable[[], None]) -> None:
        """``on_stop`` is called when the shutdown begins."""
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self._on_stop_begun = on_stop
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    def stop_after(self, seconds: float) -> None:
        """Stop after a time, as if by a signal."""
        self._loop.call_later(seconds, self._stop, f"--duration of {seconds:g} s reached")

    def _on_stop(self, number: int, _: FrameType | None) -> None:
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, signal.SIG_DFL)  # the default action works even if the process hangs
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._soon(self._stop, signal.Signals(number).name)

    def _stop(self, why: str) -> None:
        log.info("%s: stopping", why)
        self._on_stop_begun()
        self.stop.set()

    def _on_reload(self, *_: object) -> None:
        self._soon(self.reload.set)

    def _soon(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)


async def _main(
    config: Config,
    reread: Reread,
    file: str | None,
    record: RecordTo | None,
    once: OneRun,
    last_resort: _LastResort,
    workers: Workers,
) -> int:
    notifier = Notifier(os.environ)
    notifier.status("starting")
    pipeline = build(config, record=record)
    for line in proc.unreadable():
        log.warning("%s", line)
    _open(pipeline, config)
    signals = _Signals(lambda: last_resort.start(pipeline))  # before this a signal kills: nothing was counted
    with starting_threads():
        logs.start()
        last_resort.arm()
        LOOKUPS.start()
    workers.start()
    pipeline.page_workers.start()
    supervisor = Supervisor(pipeline, notifier)
    reloader = Reloader(pipeline, config, reread, file=file)
    pipeline.backend.configuration_status = reloader.status
    textfile = TextFile(once.textfile, pipeline.page) if once.textfile is not None else None
    try:
        await pipeline.server.start()
        with starting_threads():
            if pipeline.recorder is not None:
                pipeline.recorder.start()
            await _open_history(pipeline)
            pipeline.engine.start()
        pipeline.control.plane.start()
        pipeline.catalog.start()
        pipeline.peer_watch.start(partial(_apply_peers, pipeline))
        why = f": {pipeline.source_reason}" if pipeline.source_reason else ""
        log.info("listening on %s, reading %s%s", pipeline.server.url, names(pipeline.source), why)
        if textfile is not None:
            textfile.start()
        if once.duration is not None:
            signals.stop_after(once.duration)
        garbage.set_up()
        status = await _live(signals, supervisor, reloader, notifier)
    finally:
        notifier.stopping()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        await _shut_down(pipeline, last_resort)
        notifier.close()
        if textfile is not None:
            await textfile.finish()
    return EXIT_FAILURE if pipeline.engine.failure is not None else status


def _open(pipeline: Pipeline, config: Config) -> None:
    """Open everything that needs privileges, then drop them, before any other thread starts and any request arrives."""
    pipeline.source.open()
    pipeline.server.bind(take_listener(os.environ, config.http.listen.host, config.http.listen.port))
    try:
        privileges.drop(kept_capabilities(pipeline.source.facts.name, config.collect))
    except OSError as error:  # a filter of system calls may refuse it
        log.warning("privileges not dropped: %s; the daemon keeps them", error.strerror)
    if (privileges.threads() or 1) > 1:
        log.warning("privileges not dropped in threads that a library started before; they keep theirs")


async def _live(signals: _Signals, supervisor: Supervisor, reloader: Reloader, notifier: Notifier) -> int:
    """Run until a signal arrives or a worker stops. Returns the exit status."""
    stopped = asyncio.create_task(signals.stop.wait(), name="stop")
    watching = asyncio.create_task(supervisor.run(), name="supervisor")
    reloading = asyncio.create_task(_reload_when_asked(signals, supervisor, reloader, notifier), name="reload")
    collecting = asyncio.create_task(garbage.collect(), name="garbage")
    tasks = (stopped, watching, reloading, collecting)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stopped in done:
            return EXIT_OK
        for task in done:
            task.result()  # raises the error that ended it
        log.critical("%s stopped unexpectedly; shutting down", " and ".join(supervisor.dead()))
        return EXIT_FAILURE
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)


async def _reload_when_asked(signals: _Signals, supervisor: Supervisor, reloader: Reloader, notifier: Notifier) -> None:
    """Reload at every SIGHUP. All that arrive during a reload cause a single further one."""
    while True:
        await signals.reload.wait()
        signals.reload.clear()
        if supervisor.sent_ready:
            notifier.reloading()
        await reloader.reload()
        if supervisor.sent_ready:
            notifier.ready(supervisor.state())


async def _open_history(pipeline: Pipeline) -> None:
    if pipeline.history_writer is not None:
        known = await asyncio.to_thread(pipeline.history_writer.open)
        pipeline.engine.restore(known)
        pipeline.history_writer.start()
    if pipeline.store is not None:
        pipeline.store.sender.start()


async def _apply_peers(pipeline: Pipeline, config: Config) -> None:
    """Use other addresses of peers."""
    with contextlib.suppress(QueryError):  # the engine is busy; the next round applies them
        await asyncio.wrap_future(pipeline.engine.call(lambda: pipeline.engine.configure(config)))


async def _shut_down(pipeline: Pipeline, last_resort: _LastResort) -> None:
    """Stop the engine with its last counters, then the calls, then the server, so that the last scrape is complete."""
    deadline = time.monotonic() + STOP_SECONDS
    last_resort.start(pipeline)
    await pipeline.catalog.aclose()
    await pipeline.peer_watch.aclose()
    if pipeline.engine.is_alive():
        pipeline.engine.stop()
        await _wait_for(pipeline.engine, ENGINE_SECONDS)
    else:
        pipeline.source.close()
    if pipeline.recorder is not None:
        await _wait_for(pipeline.recorder.finish(whole=not pipeline.engine.is_alive()), CLOSE_SECONDS)
    if pipeline.history_writer is not None and pipeline.history_writer.is_alive():
        pipeline.history_writer.stop()
        await _wait_for(pipeline.history_writer, STOP_SECONDS)
    if pipeline.store is not None and pipeline.store.sender.is_alive():
        pipeline.store.sender.stop(whole=_everything_is_written(pipeline))
        # The last flows are sent now or after the next start.
        await _wait_for(pipeline.store.sender, min(SEND_SECONDS, deadline - time.monotonic() - REST_SECONDS))
    pipeline.backend.close()
    await pipeline.resolver.aclose()
    await pipeline.control.plane.aclose()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(pipeline.server.stop(), max(0.1, deadline - time.monotonic() - REST_SECONDS))
    pipeline.page_workers.shutdown(wait=False)


def _everything_is_written(pipeline: Pipeline) -> bool:
    """Whether the history file has every flow of this run, or counts it as lost."""
    engine, writer = pipeline.engine, pipeline.history_writer
    stopped = not engine.is_alive() and engine.failure is None
    return stopped and writer is not None and not writer.is_alive() and writer.first_end() is None


async def _wait_for(thread: threading.Thread, seconds: float) -> None:
    """Wait for the end of a thread, at most ``seconds``. Polls, since all workers that could join it may be busy."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while thread.is_alive():
                await asyncio.sleep(POLL_SECONDS)


class _LastResort:
    """Ends the process if the shutdown takes too long, for example because the engine hangs."""

    def __init__(self) -> None:
        self._pipeline: Pipeline | None = None
        self._stopping, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="last resort", daemon=True)

    def arm(self) -> None:
        """Start its thread now: at the shutdown the system may refuse another one."""
        self._thread.start()

    def start(self, pipeline: Pipeline) -> None:
        """Start the time limit. Later calls do nothing."""
        if self._pipeline is None:
            self._pipeline = pipeline
            self._stopping.set()

    def cancel(self) -> None:
        """Cancel the time limit, unless the engine hangs: the interpreter would wait for its thread."""
        if self._pipeline is None or not self._pipeline.engine.is_alive():
            self._done.set()

    def _watch(self) -> None:
        self._stopping.wait()
        if not self._done.wait(STOP_SECONDS):
            self._end()

    def _end(self) -> None:
        assert self._pipeline is not None, "started with one"
        engine = self._pipeline.engine
        counted = not engine.is_alive() and engine.failure is None
        log.warning(
            "shutdown timed out after %g s; %s",
            STOP_SECONDS,
            "all traffic was counted" if counted else "the last counters are missing",
        )
        logs.close()
        os._exit(EXIT_OK if counted else EXIT_FAILURE)
