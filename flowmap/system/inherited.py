"""State that a process inherits over execve(2), set to what flowmap needs.

Not changed: ignored signals that a user chose for a command (nohup(1)), the environment, the working directory.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

FILES = 1024
"""Open files; the daemon needs far fewer, as connections are limited."""
OWNER_ONLY = 0o077


def own_signals() -> None:
    """Unblock all signals and reset SIGCHLD: both are inherited, and a blocked SIGTERM would stop nothing."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, the kernel discards the exit status of children
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def own_files() -> None:
    """Set the umask so that only the owner can access new files, and raise a low soft limit on open files."""
    os.umask(OWNER_ONLY)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a filter of system calls may refuse it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
