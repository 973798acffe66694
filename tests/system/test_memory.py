"""Large arrays leave no memory behind, however many there were."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np
from flowmap.system.memory import give_back_large
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
if sys.argv[1] == "given back":
    give_back_large()
np.ones(1 << 21)  # 16 MiB: as it is freed, glibc learns to keep as much
before, kept = resident(), []
for _ in range(8):
    kept.append((np.ones(3 << 19), np.ones(999)))  # 12 MiB, and something small behind it
kept = [small for _, small in kept]
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it")
def test_memory_of_large_arrays_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", CODE, "given back"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 12
