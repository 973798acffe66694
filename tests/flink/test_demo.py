"""``flowmap demo --flink`` as a user runs it: every byte of the jobs has the right owner."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.flink import distribution


@pytest.mark.flink
@pytest.mark.parametrize("version", distribution.VERSIONS)
def test_demo(version: str) -> None:
    if what := distribution.missing(version):
        pytest.skip(what)
    words = ["demo", "--flink", str(distribution.home(version)), "--duration", "6s", "--listen", "127.0.0.1:0"]
    done = subprocess.run([sys.executable, "-m", "flowmap", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All bytes have the right owner." in done.stdout
    assert done.stdout.count("  equal") == 5
