"""The life of the opener: privileges, signals, log and systemd's protocol. The daemon is another process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from flowmap import logs
from flowmap.opener.server import Opener
from flowmap.system import privileges
from flowmap.system.notify import Notifier
from flowmap.system.privileges import OPENER


def run(path: Path, allowed: Iterable[str], *, level: str) -> None:
    """Serve daemons on a Unix socket until SIGTERM or SIGINT; ConfigError if the socket cannot be made.

    ``allowed``: see :class:`flowmap.opener.server.Opener`.
    """
    logs.set_up(level, "auto")
    privileges.harden()
    privileges.drop(OPENER)
    notifier = Notifier(os.environ)
    opener = Opener(path, allowed=allowed)

    def stop(number: int, frame: FrameType | None) -> None:
        opener.stop()

    try:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, stop)
        opener.listen()
        logs.start()
        opener.run(notifier)
    finally:
        notifier.close()
        logs.close()
