"""README: its generated tables are in step with the code, and its commands are the ones CI runs.

Mend the tables with ``python -m tests.test_docs``.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flowmap.cli.command import COMMANDS
from flowmap.config import config_markdown
from flowmap.export.definitions import metrics_markdown

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

TABLES: dict[str, Callable[[], str]] = {"config": config_markdown, "metrics": metrics_markdown}
"""What stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""


def section(name: str) -> re.Pattern[str]:
    """The generated part: what is before it, the part itself, and what is after."""
    return re.compile(rf"(<!-- {name}:begin[^>]*-->\n\n?)(.*?)(\n?<!-- {name}:end -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_table_is_in_step(name: str) -> None:
    found = section(name).findall(README.read_text())
    assert len(found) == 1, f"README.md needs one <!-- {name}:begin --> … <!-- {name}:end -->"
    assert found[0][1].strip() == TABLES[name]().strip(), "run: python -m tests.test_docs"


def test_readme_names_every_command() -> None:
    text = README.read_text()
    assert [name for name in COMMANDS if f"flowmap {name}" not in text] == []


def test_the_two_commands_are_found_by_ci() -> None:
    said = subprocess.run([ROOT / ".ci" / "run", "--commands"], capture_output=True, text=True, check=True).stdout
    demo, test = said.splitlines()
    assert "flowmap demo" in demo
    assert "pytest" in test


def mend() -> None:
    """Write the tables into README.md."""
    text = README.read_text()
    for name, table in TABLES.items():
        new = table().strip()
        text = section(name).sub(lambda match, new=new: f"{match[1]}{new}{match[3]}", text)  # type: ignore[misc]
    README.write_text(text)


if __name__ == "__main__":
    mend()
