"""State that a process keeps over exec does not decide how flowmap works."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DUMPED = """
import json, os, resource, signal, sys
from flowmap.system import inherited
inherited.own_signals()
inherited.own_files()
os.close(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o666))
print(json.dumps({
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "child": signal.getsignal(signal.SIGCHLD),
    "mode": os.stat(sys.argv[1]).st_mode & 0o777,
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
}))
"""


def nothing() -> None:
    """A usual parent."""


def blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def ignored() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def open_to_all() -> None:
    os.umask(0)


def closed_to_owner() -> None:
    os.umask(0o777)


def few_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))


def never_many_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 48))


PARENTS = [(nothing, 1024), (blocked, 1024), (ignored, 1024), (open_to_all, 1024), (few_files, 1024)]


@pytest.mark.parametrize(("parent", "files"), [*PARENTS, (never_many_files, 48), (closed_to_owner, 1024)])
def test_inherited_state_is_reset(tmp_path: Path, parent: Callable[[], None], files: int) -> None:
    file = tmp_path / "made"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run([sys.executable, "-c", DUMPED, str(file)], capture_output=True, text=True, preexec_fn=parent)
    seen: dict[str, Any] = json.loads(done.stdout)
    assert (seen["blocked"], seen["child"]) == ([], signal.SIG_DFL)
    assert (seen["mode"], seen["files"] >= min(files, hard)) == (0o600, True)
