"""Settings that libraries read while they are imported."""

from __future__ import annotations

import sys

ENVIRONMENT = {
    # numpy reserves its tables for the limits of the configuration and touches little of them. With huge pages every
    # first touch costs 2 MiB, and nothing is faster.
    "NUMPY_MADVISE_HUGEPAGE": "0",
    # flowmap multiplies no matrices. Idle threads of OpenBLAS would keep the privileges they were started with.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""Environment variables that numpy reads. The daemon overrides what the user has set, since threads keep privileges."""


def leave_out_httpx_command() -> None:
    """Let ``import httpx`` skip httpx's own command line, which imports rich, pygments and click if they are there.

    That is 0.15 s and 6 MB for every command and the daemon. httpx catches the ImportError that None causes.
    """
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
