"""The log of the process on stderr. Logging never blocks.

Lines are formatted by the logging thread, put into a bounded queue and written by a separate thread. An unread pipe, a
stopped terminal or a full disk loses lines, which are dropped and counted.

``logging.handlers.QueueListener`` does not fit: its ``stop`` waits without a limit, it needs a thread even for the last
lines, and it cannot run anything while the queue is idle.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter

from flowmap.logs.forms import Form, chosen_form
from flowmap.logs.handler import LogHandler
from flowmap.logs.sink import Sink

LIBRARIES = ("httpx", "httpcore", "uvicorn", "asyncio")
"""Logged from ``warning`` on: httpx logs every URL at ``info``."""

_CLOSE_SECONDS = 0.5
_handler: LogHandler | None = None


def set_up(level: str, form: Form) -> None:
    """Send the log of this process to stderr; lines are queued until :func:`start` or :func:`close`.

    A further call changes ``level`` and ``form`` only.
    """
    global _handler  # noqa: PLW0603 - one log a process
    if _handler is None:
        _handler = LogHandler(Sink(2))
        threading.excepthook = _on_dead_thread
        logging.captureWarnings(True)
    _handler.setFormatter(chosen_form(form, 2))
    _handler.encoding = (sys.stderr.encoding if os.isatty(2) else None) or "utf-8"  # files and the journal: UTF-8
    logging.basicConfig(level=level.upper(), handlers=[_handler], force=True)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def start() -> None:
    """Start the writing thread. Not part of :func:`set_up`, because threads keep the privileges of their start."""
    if _handler is not None:
        _handler.start()


def close() -> None:
    """Write the queued lines, for half a second at most."""
    if _handler is not None:
        _handler.finish(_CLOSE_SECONDS)


def take_counts() -> Counter[tuple[str, str]]:
    """Counts since the last call: ``("line", level)`` of lines logged, ``("dropped", reason)`` of lines not written.

    Reasons: ``suppressed`` (repeated too often), ``full`` (stderr is not read), ``failed`` (stderr cannot be written).
    """
    return Counter() if _handler is None else _handler.take_counts()


def _on_dead_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is SystemExit or arguments.exc_value is None:
        return
    name = arguments.thread.name if arguments.thread else "?"
    logging.getLogger(__name__).critical("thread %s died", name, exc_info=arguments.exc_value)
