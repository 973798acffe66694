"""Closed standard descriptors become /dev/null, and open ones stay."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
for number in {closed}:
    os.close(number)
from flowmap.system.descriptors import hold_standard
hold_standard()
null = os.stat(os.devnull)
sames = [os.path.samestat(os.fstat(number), null) for number in range(3)]
opened = os.open(os.devnull, os.O_RDONLY)
with open(sys.argv[1], "w") as file:
    print(sames, opened > 2, file=file)
"""


@pytest.mark.parametrize("closed", [[], [0], [1], [2], [0, 2], [0, 1, 2]])
def test_closed_descriptors(closed: list[int], tmp_path: object) -> None:
    path = f"{tmp_path}/out"
    program = PROGRAM.format(closed=closed)
    subprocess.run([sys.executable, "-c", program, path], input=b"", capture_output=True, check=True, timeout=60)
    with open(path) as file:
        assert file.read().strip() == f"{[number in closed for number in range(3)]} True"
