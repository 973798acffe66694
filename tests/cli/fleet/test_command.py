"""``flowmap fleet``: its subcommands."""

from __future__ import annotations

import pytest

from flowmap.cli.command import main
from flowmap.cli.fleet.command import WAYS


@pytest.mark.parametrize("way", WAYS)
def test_every_subcommand_has_help(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fleet", way, "--help"])
    assert ended.value.code == 0
    assert WAYS[way].split()[0] in capsys.readouterr().out
