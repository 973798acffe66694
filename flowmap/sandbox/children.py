"""Child processes that do not outlive their parent."""

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

PATIENCE = 10.0
"""Seconds a child has between SIGTERM and SIGKILL."""


class Child:
    """One process: its output, and what it complained about."""

    def __init__(self, name: str, process: subprocess.Popen[str], source_log: IO[bytes]) -> None:
        self.name = name
        self.process = process
        self._source_log = source_log

    def complaint(self) -> str:
        """The last line it wrote to stderr."""
        self._source_log.seek(0)
        lines = self._source_log.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    def check(self) -> None:
        """FlowmapError if it has ended."""
        status = self.process.poll()
        if status is not None:
            raise FlowmapError(f"{self.name} ended with status {status}: {self.complaint()}")

    def stop(self) -> str:
        """SIGTERM and wait; what it had still to say on stdout."""
        self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise FlowmapError(f"{self.name} did not end within {PATIENCE:.0f} s of SIGTERM") from None
        if self.process.returncode != 0:
            raise FlowmapError(f"{self.name} ended with status {self.process.returncode}: {self.complaint()}")
        return out or ""


class Children:
    """All of them; leaving the context ends those that still run, the last started first."""

    def __init__(self) -> None:
        self._all: list[Child] = []
        self._files = ExitStack()
        self._on_start = _die_with(os.getpid())

    def start(
        self, name: str, argv: Sequence[str], *, environ: dict[str, str], descriptors: Sequence[int] = ()
    ) -> Child:
        """Run ``argv`` with stdout on a pipe."""
        source_log = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=source_log,
            text=True,
            env=environ,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the others in order
            preexec_fn=self._on_start,
        )
        if process.stdout is not None:
            self._files.enter_context(process.stdout)
        child = Child(name, process, source_log)
        self._all.append(child)
        return child

    def check(self) -> None:
        """FlowmapError if one has ended."""
        for child in self._all:
            child.check()

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.process.pid for child in self._all}

    def forget(self, child: Child) -> None:
        """It was stopped on purpose."""
        self._all.remove(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = [child.process for child in reversed(self._all) if child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._files.close()


def _die_with(parent: int) -> Callable[[], None]:
    """For the child, before it runs its program: SIGTERM as soon as ``parent`` is gone, however it went."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone between fork and prctl
            os._exit(1)

    return set_signal
