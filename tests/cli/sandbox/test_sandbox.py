"""flowmap sandbox."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flowmap.cli import command


def test_it_says_where_it_answers_and_ends_on_a_signal(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("deployments: [{id: a, name: a, addresses: [10.0.0.1]}]")
    words = [sys.executable, "-m", "flowmap", "sandbox", "--catalog", str(catalog)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"access key \S+, secret \S+, endpoint (http://127\.0\.0\.1:\d+)\n", said)
        assert found is not None
        served = httpx.get(f"{found[1]}/_sandbox/catalog").json()
        assert [one["id"] for one in served["deployments"]] == ["a"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--listen", "0.0.0.0:0"], "listen"), (["--catalog", "/nowhere.yaml"], "/nowhere.yaml: cannot read")],
)
def test_what_it_refuses(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["sandbox", *words]) == 78
    assert said in capsys.readouterr().err
