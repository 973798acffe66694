"""What a process keeps of the program that started it (execve(2)), set to what flowmap needs.

Not changed: ignored signals that a user chose for a command (nohup(1)), the environment, the working directory.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

FILES = 1024
"""Open files that the daemon never comes near: connections are bounded far below."""
OWNER_ONLY = 0o077


def own_signals() -> None:
    """Block no signal, and learn how children end: both are kept over exec, and a blocked SIGTERM stops nothing."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, the kernel throws the status of a child away
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def own_files() -> None:
    """New files are the owner's alone whatever the umask was, and a low soft limit on open files is raised."""
    os.umask(OWNER_ONLY)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a filter of system calls may refuse it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
