"""Settings that libraries read while they are imported."""

from __future__ import annotations

import subprocess
import sys

from flowmap.cli.shared.environment import ENVIRONMENT


def test_a_command_leaves_out_httpx_s_own_command_line() -> None:
    code = (
        "import sys; from flowmap.cli.shared.environment import leave_out_httpx_command as leave_out; leave_out(); "
        "import httpx; print([name for name in ('click', 'rich', 'pygments') if name in sys.modules], httpx.Client)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] <class 'httpx.Client'>\n"


def test_the_variables_are_numpys() -> None:
    assert all(value.isdigit() for value in ENVIRONMENT.values())
    code = "import os, numpy; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout == "1\n", "no idle thread of OpenBLAS"
