"""Child processes that exit when their parent does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

from flowmap.errors import FlowmapError

PR_SET_PDEATHSIG = 1  # linux/prctl.h

STOP_TIMEOUT = 10.0
"""Seconds between SIGTERM and SIGKILL."""


class Child:
    """A process, its stdout and its stderr."""

    def __init__(
        self, name: str, process: subprocess.Popen[str], stderr: IO[bytes], stdout: IO[bytes] | None = None
    ) -> None:
        """``stdout``: the file that it is in, unless it is a pipe."""
        self.name = name
        self.process = process
        self._stderr = stderr
        self._stdout = stdout

    def last_error(self) -> str:
        """The last line on stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else "no output on stderr"

    def check(self) -> None:
        """FlowmapError if the process has exited."""
        status = self.process.poll()
        if status is not None:
            raise FlowmapError(f"{self.name} exited with status {status}: {self.last_error()}")

    def stop(self) -> str:
        """Send SIGTERM and wait; returns the rest of stdout. FlowmapError for a failure."""
        self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise FlowmapError(f"{self.name} did not exit within {STOP_TIMEOUT:.0f} s of SIGTERM") from None
        if self.process.returncode != 0:
            raise FlowmapError(f"{self.name} exited with status {self.process.returncode}: {self.last_error()}")
        return out or ""

    def stop_and_read(self) -> str:
        """Stop a process of which any exit status will do; returns its whole stdout, from its file."""
        assert self._stdout is not None, "it was started with files"
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._stdout.seek(0)
        return self._stdout.read().decode(errors="replace")


class Children:
    """A group of processes. Leaving the context stops the running ones, the last started first."""

    def __init__(self) -> None:
        self._all: list[Child] = []
        self._files = ExitStack()
        self._on_start = _die_with(os.getpid())

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environ: dict[str, str],
        descriptors: Sequence[int] = (),
        files: bool = False,
    ) -> Child:
        """Start ``argv`` with stdout on a pipe, or with ``files`` in a file: a pipe that is not read would fill."""
        stdout = self._files.enter_context(tempfile.TemporaryFile()) if files else None  # noqa: SIM115
        stderr = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=stderr,
            text=True,
            env=environ,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C goes to the parent only, which stops its children in order
            preexec_fn=self._on_start,
        )
        if process.stdout is not None:
            self._files.enter_context(process.stdout)
        child = Child(name, process, stderr, stdout)
        self._all.append(child)
        return child

    def check(self) -> None:
        """FlowmapError if one has exited."""
        for child in self._all:
            child.check()

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.process.pid for child in self._all}

    def remove(self, child: Child) -> None:
        """Stop watching ``child``, before it is stopped on purpose."""
        self._all.remove(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = [child.process for child in reversed(self._all) if child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._files.close()


def _die_with(parent: int) -> Callable[[], None]:
    """A function for the child, before its program starts: SIGTERM once ``parent`` has exited for any reason."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent exited between fork and prctl
            os._exit(1)

    return set_signal
