"""run: before the daemon begins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PARSE = """
import os, sys
from flowmap.cli import command
command._parser(sys.argv[1:]).parse_args(sys.argv[1:])
import numpy
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.parametrize("words", [[], ["--duration", "1s"], ["--record", "x", "--record-max-size", "1MiB"]])
def test_no_library_has_threads_before_privileges_are_dropped(words: list[str]) -> None:
    """Whatever the words are that make a library be imported early, and whatever the user wants of it."""
    environ = os.environ | {"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, "run", *words], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"]
