"""flowmap config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowmap.cli import command
from tests.support.connect_proxy import ConnectProxy
from tests.support.proxied import Site


def test_config_shows_the_proxy_without_its_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Site(ConnectProxy(url="http://proxy.example:3128"), tmp_path, capsys)
    for form in ("yaml", "json"):
        status, said = made.run("config", "-o", form)
        assert status == 0 and "http://ann:<secret>@proxy.example:3128" in said


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["--example"], "# Every key of flowmap"),
        (["--schema"], "{"),
        (["-o", "json"], "{"),
        ([], "control_plane:"),
    ],
)
def test_what_is_printed(words: list[str], begins: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["config", *words]) == 0
    shown = capsys.readouterr()
    assert (shown.out[: len(begins)], shown.err) == (begins, "")
    if begins == "{":
        assert isinstance(json.loads(shown.out), dict)


def test_two_outputs_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["config", "--schema", "--example"])
    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
