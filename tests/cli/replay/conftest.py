"""The recording that tests of flowmap replay share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import recorded
from tests.support.replayed import SCRIPT


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("replay") / "recording"
    recorded(made, SCRIPT)
    return made
