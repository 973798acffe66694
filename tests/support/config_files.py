"""Configuration files with problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.config import load
from flowmap.errors import ConfigError


def problems_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """The lines of the ConfigError, without the folder of the file."""
    file = tmp_path / "flowmap.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(file), environ or {})
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


BCRYPT = "$2y$10$" + "a" * 53
"""A valid hash without a known password."""
