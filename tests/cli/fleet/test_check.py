"""``flowmap fleet check``: without a fleet it says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.cli.command import main


def test_without_a_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("{}")
    assert main(["fleet", "check", "-c", str(file)]) == 78
    assert "fleet.url: not set" in capsys.readouterr().err
