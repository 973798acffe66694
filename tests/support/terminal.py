"""A command in a pseudo-terminal, as an emulator (pyte) shows it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pyte

from tests.support.waiting import SECONDS


class Terminal:
    """The screen of a running command; ``columns`` × ``lines``."""

    def __init__(self, words: list[str], columns: int, lines: int, environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        self.resize(columns, lines)
        argv = [sys.executable, "-m", "flowmap", *words]
        env = {**os.environ, "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1", **environ}
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
        os.close(slave)

    def resize(self, columns: int, lines: int) -> None:
        while select.select([self._master], [], [], 0.1)[0]:  # what was written for the old size belongs there
            self._read()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def shows(self, wanted: str, *, seconds: float = SECONDS) -> list[str]:
        """The lines of the screen, once one of them has ``wanted``."""
        end = time.monotonic() + seconds
        while not any(wanted in line for line in self._screen.display):
            assert time.monotonic() < end, f"{wanted!r} is not on the screen:\n" + "\n".join(self._screen.display)
            self._read()
        return [line.rstrip() for line in self._screen.display]

    def ends(self) -> int:
        """The exit status."""
        end = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            self._read()
        self._read()
        return self.process.wait(1)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it does for a shell."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._master)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            if select.select([self._master], [], [], 0.05)[0]:
                data = os.read(self._master, 65536)
                self.written += data
                self._stream.feed(data)


@contextlib.contextmanager
def terminal(*words: str, columns: int = 80, lines: int = 24, **environ: str) -> Iterator[Terminal]:
    """``flowmap`` with ``words``, killed in the end if it still runs."""
    running = Terminal(list(words), columns, lines, environ)
    try:
        yield running
    finally:
        running.close()
