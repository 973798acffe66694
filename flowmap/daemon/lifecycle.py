"""The daemon's life: start, privileges, readiness, signals, reload, ordered end."""

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
from types import FrameType

from flowmap import logs
from flowmap.config import Config
from flowmap.daemon.reload import Reloader, Reread
from flowmap.daemon.supervisor import Supervisor
from flowmap.daemon.textfile import OneRun, TextFile
from flowmap.daemon.wiring import Pipeline, build
from flowmap.errors import ConfigError, FlowmapError, describe_defect
from flowmap.recording.recorder import CLOSE_SECONDS, RecordTo
from flowmap.sources.combined import names
from flowmap.system import inherited, memory, privileges, proc
from flowmap.system.names import LOOKUPS
from flowmap.system.notify import Notifier, take_listener
from flowmap.system.workers import QUERY_THREADS, Workers, WorkersLoop, starting_threads

log = logging.getLogger(__name__)

EXIT_OK, EXIT_FAILURE, EXIT_CONFIG = 0, 1, 78
STOP_SECONDS = 4.5
"""From SIGTERM to the end, whatever hangs."""
WRITER_SECONDS = 3.0
"""Of these, what the writer gets to take its last counters."""
_LOOK_EVERY = 0.01  # seconds between two looks whether a thread has ended
FOR_EVER = OneRun()


def run(
    config: Config, reread: Reread, *, file: str | None = None, record: RecordTo | None = None, once: OneRun = FOR_EVER
) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0 stopped, 78 configuration, 1 failure.

    ``reread`` reads the configuration again, ``file`` is where it is, for people; ``record``: where to record,
    ``once``: when to end by itself, and the page to leave behind.
    """
    logs.set_up(config.log.level, config.log.format)
    last_resort = _LastResort()
    try:
        faulthandler.enable(file=2)  # the watchdog ends a process with SIGABRT: this says where it hung
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
        log.exception("the daemon ends: %s", describe_defect(error))
        return EXIT_FAILURE
    finally:
        last_resort.cancel()
        logs.close()


class _Signals:
    """What signals ask for. The first SIGTERM or SIGINT stops in order; after it a second one kills.

    Not asyncio's own handlers: they learn of a signal from a socket that is full after some 300 of them, so that a
    storm of SIGHUP would lose the SIGTERM after it. These run between any two instructions: nothing may be locked.
    """

    def __init__(self, on_stop: Callable[[], None]) -> None:
        """``on_stop`` is called when the end begins."""
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self._begin_end = on_stop
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    def stop_after(self, seconds: float) -> None:
        """Stop by itself, as if by a signal."""
        self._loop.call_later(seconds, self._stop, f"{seconds:g} s are over")

    def _on_stop(self, number: int, _: FrameType | None) -> None:
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, signal.SIG_DFL)  # the kernel's own handler: it works however we hang
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._soon(self._stop, signal.Signals(number).name)

    def _stop(self, why: str) -> None:
        log.info("%s: stopping", why)
        self._begin_end()
        self.stop.set()

    def _on_reload(self, *_: object) -> None:
        self._soon(self.reload.set)

    def _soon(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
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
    for line in proc.shortcomings():
        log.warning("%s", line)
    _open(pipeline, config)
    signals = _Signals(lambda: last_resort.start(pipeline))  # until now a signal ends it at once: nothing was counted
    with starting_threads():
        logs.start()
        last_resort.arm()
        LOOKUPS.start()
    workers.start()
    pipeline.page_workers.start()
    watch = Supervisor(pipeline, notifier)
    reloader = Reloader(pipeline, config, reread, file=file)
    pipeline.backend.configuration_status = reloader.status
    textfile = TextFile(once.textfile, pipeline.page) if once.textfile is not None else None
    writing: asyncio.Task[None] | None = None
    try:
        await pipeline.server.start()
        with starting_threads():
            if pipeline.recorder is not None:
                pipeline.recorder.start()
            await _open_history(pipeline)
            pipeline.engine.start()
        pipeline.catalog.start()
        why = f": {pipeline.source_reason}" if pipeline.source_reason else ""
        log.info("listening on %s, reading %s%s", pipeline.server.url, names(pipeline.source), why)
        if textfile is not None:
            writing = asyncio.create_task(textfile.keep_writing(), name="textfile")
        if once.duration is not None:
            signals.stop_after(once.duration)
        status = await _live(signals, watch, reloader, notifier)
    finally:
        notifier.stopping()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        await _shut_down(pipeline, last_resort)
        notifier.close()
        if textfile is not None and writing is not None:
            await textfile.finish(writing)
    return EXIT_FAILURE if pipeline.engine.failure is not None else status


def _open(pipeline: Pipeline, config: Config) -> None:
    """Open what needs privileges, then give them up, before there is any other thread and any request."""
    pipeline.source.open()
    pipeline.server.bind(take_listener(os.environ, config.http.listen.host, config.http.listen.port))
    try:
        privileges.drop(privileges.KEPT.get(pipeline.source.name, frozenset()))
    except OSError as error:  # a filter of system calls may refuse it
        log.warning("privileges could not be given up: %s", error.strerror)
    if (privileges.threads() or 1) > 1:
        log.warning("a library has started threads before privileges were dropped; they keep theirs")


async def _live(signals: _Signals, watch: Supervisor, reloader: Reloader, notifier: Notifier) -> int:
    """Until a signal or a worker's death; the exit status."""
    stopped = asyncio.create_task(signals.stop.wait(), name="stop")
    watching = asyncio.create_task(watch.run(), name="watch")
    reloading = asyncio.create_task(_reload_when_asked(signals, watch, reloader, notifier), name="reload")
    tasks = (stopped, watching, reloading)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stopped in done:
            return EXIT_OK
        for task in done:
            task.result()  # raises what ended it
        log.critical("%s ended; flowmap ends, too", " and ".join(watch.dead()))
        return EXIT_FAILURE
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)


async def _reload_when_asked(signals: _Signals, watch: Supervisor, reloader: Reloader, notifier: Notifier) -> None:
    """One reload after the other; what is asked for during one is a single further one."""
    while True:
        await signals.reload.wait()
        signals.reload.clear()
        if watch.told_ready:
            notifier.reloading()
        await reloader.reload()
        if watch.told_ready:
            notifier.ready(watch.state())


async def _open_history(pipeline: Pipeline) -> None:
    if pipeline.history_writer is not None:
        known = await asyncio.to_thread(pipeline.history_writer.open)
        pipeline.engine.restore(known)
        pipeline.history_writer.start()


async def _shut_down(pipeline: Pipeline, last_resort: _LastResort) -> None:
    """Stop the source with its last counters taken, then the calls, then the server, so the last scrape is whole."""
    end = time.monotonic() + STOP_SECONDS
    last_resort.start(pipeline)
    await pipeline.catalog.aclose()
    if pipeline.engine.is_alive():
        pipeline.engine.stop()
        await _ended(pipeline.engine, WRITER_SECONDS)
    else:
        pipeline.source.close()
    if pipeline.recorder is not None:
        await _ended(pipeline.recorder.finish(whole=not pipeline.engine.is_alive()), CLOSE_SECONDS)
    if pipeline.history_writer is not None and pipeline.history_writer.is_alive():
        pipeline.history_writer.stop()
        await _ended(pipeline.history_writer, STOP_SECONDS)
    pipeline.backend.close()
    await pipeline.resolver.aclose()
    await pipeline.control.plane.aclose()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(pipeline.server.stop(), max(0.1, end - time.monotonic() - 0.5))
    pipeline.page_workers.shutdown(wait=False)


async def _ended(thread: threading.Thread, seconds: float) -> None:
    """Wait for the end of a thread, at most so long. Looks, for the workers may all be busy."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while thread.is_alive():
                await asyncio.sleep(_LOOK_EVERY)


class _LastResort:
    """Ends the process where a look-up of a name or a writer that hangs would keep it."""

    def __init__(self) -> None:
        self._pipeline: Pipeline | None = None
        self._stopping, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="last resort", daemon=True)

    def arm(self) -> None:
        """Start the thread that will count: at the end there may be none to be had."""
        self._thread.start()

    def start(self, pipeline: Pipeline) -> None:
        """Begin to count the seconds, once."""
        if self._pipeline is None:
            self._pipeline = pipeline
            self._stopping.set()

    def cancel(self) -> None:
        """Everything has ended, unless the writer hangs: then the interpreter would wait for its thread."""
        if self._pipeline is None or not self._pipeline.engine.is_alive():
            self._over.set()

    def _watch(self) -> None:
        self._stopping.wait()
        if not self._over.wait(STOP_SECONDS):
            self._end()

    def _end(self) -> None:
        assert self._pipeline is not None, "started with one"
        engine = self._pipeline.engine
        counted = not engine.is_alive() and engine.failure is None
        log.warning(
            "not all ended in time; %s", "everything was counted" if counted else "the last counters are missing"
        )
        logs.close()
        os._exit(EXIT_OK if counted else EXIT_FAILURE)
