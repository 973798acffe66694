"""Child processes: what is told of one that ended, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flowmap.errors import FlowmapError
from flowmap.sandbox.demo.children import Child, Children

ENVIRON = dict(os.environ)
SLEEP = "import time; print('up', flush=True); time.sleep(100)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


def start(children: Children, code: str) -> Child:
    return children.start("the child", [sys.executable, "-c", code], environ=ENVIRON)


def wait_until_up(child: Child) -> None:
    assert child.process.stdout is not None
    assert child.process.stdout.readline() == "up\n"


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_leaving_ends_them_all() -> None:
    with Children() as children:
        started = [start(children, SLEEP) for _ in range(2)]
        for child in started:
            wait_until_up(child)
        children.check()
    assert [child.process.returncode for child in started] == [-signal.SIGTERM] * 2


def test_one_that_ends_is_told_with_its_last_words() -> None:
    with Children() as children:
        child = start(children, "import sys; print('first', file=sys.stderr); sys.exit('no such thing')")
        child.process.wait(30)
        with pytest.raises(FlowmapError, match="^the child exited with status 1: no such thing$"):
            children.check()


def test_stop_gives_what_was_still_said() -> None:
    code = (
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); print('up', flush=True)\n"
        "signal.sigwait([signal.SIGTERM]); print('bye')"
    )
    with Children() as children:
        child = start(children, code)
        wait_until_up(child)
        children.remove(child)
        assert child.stop() == "bye\n"


def test_stop_says_so_if_it_fails() -> None:
    with Children() as children:
        child = start(children, SLEEP)
        wait_until_up(child)
        with pytest.raises(FlowmapError, match="exited with status -15: no output on stderr"):
            child.stop()


def test_one_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.sandbox.demo.children.STOP_TIMEOUT", 0.2)
    with Children() as children:
        first, second = start(children, STUBBORN), start(children, STUBBORN)
        wait_until_up(first)
        wait_until_up(second)
        children.remove(first)
        with pytest.raises(FlowmapError, match="did not exit"):
            first.stop()
    assert [first.process.returncode, second.process.returncode] == [-signal.SIGKILL] * 2


def test_they_die_with_a_parent_that_is_killed() -> None:
    code = (
        "import os, sys, time\n"
        "from flowmap.sandbox.demo.children import Children\n"
        "children = Children()\n"
        "child = children.start('c', ['sleep', '100'], environ=dict(os.environ))\n"
        "print(child.process.pid, flush=True)\n"
        "time.sleep(100)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
