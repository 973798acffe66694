"""The daemon's log on stderr, which nothing waits for.

Lines are made where they are logged, put into a bounded queue and written by a thread of their own: a pipe that nobody
reads, a terminal that is stopped or a full disk costs lines, and those are counted, but holds up nothing.
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
"""They only speak up when something is wrong: httpx tells every URL at info."""

_CLOSE_SECONDS = 0.5
_handler: LogHandler | None = None


def set_up(level: str, form: Form) -> None:
    """Send the log of this process to stderr from now on; lines wait until :func:`start` or :func:`close`.

    When called again, ``level`` and ``form`` change and everything else goes on.
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
    """Begin to write. Apart from :func:`set_up`, because threads keep the privileges they were started with."""
    if _handler is not None:
        _handler.start()


def close() -> None:
    """Write what waits, for half a second at most."""
    if _handler is not None:
        _handler.finish(_CLOSE_SECONDS)


def take_counts() -> Counter[tuple[str, str]]:
    """Since this was last called: ``("line", level)`` for lines logged, ``("dropped", reason)`` for those not written.

    Reasons: ``suppressed`` (too many like it), ``full`` (nobody reads stderr), ``failed`` (stderr cannot be written).
    """
    return Counter() if _handler is None else _handler.take_counts()


def _on_dead_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is SystemExit or arguments.exc_value is None:
        return
    name = arguments.thread.name if arguments.thread else "?"
    logging.getLogger(__name__).critical("the thread %s died", name, exc_info=arguments.exc_value)
