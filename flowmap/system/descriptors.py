"""The standard descriptors stdin, stdout and stderr."""

from __future__ import annotations

import os
import sys


def hold_standard() -> None:
    """Open /dev/null as stdin, stdout or stderr if it is closed.

    Otherwise the next socket would get that number, and output for stderr would be sent through it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # Python found it closed
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
