"""README: its generated tables are in step with the code, and its commands are the ones CI runs.

Mend the tables with ``python -m tests.test_docs``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from flowmap.cli import command
from flowmap.cli.command import COMMANDS
from flowmap.config import config_markdown
from flowmap.export.definitions import metrics_markdown
from flowmap.sandbox.fault_book import DESCRIPTIONS
from flowmap.sandbox.running import running_sandbox
from tests.faults.table import faults_markdown

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def kinds_of_faults_markdown() -> str:
    """The kinds of faults the sandbox commits."""
    rows = (f"| `{kind}` | {meaning} |" for kind, meaning in DESCRIPTIONS.items())
    return "\n".join(("| kind | what happens |", "|---|---|", *rows))


def alerts_markdown() -> str:
    """What each alert of config/prometheus/alerts.yml means."""
    groups = yaml.safe_load((ROOT / "config" / "prometheus" / "alerts.yml").read_text())["groups"]
    rows = ["| alert | severity | meaning | what to do |", "|---|---|---|---|"]
    for rule in (rule for group in groups for rule in group["rules"]):
        notes = rule["annotations"]
        rows.append(f"| {rule['alert']} | {rule['labels']['severity']} | {notes['meaning']} | {notes['action']}. |")
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "config": config_markdown,
    "metrics": metrics_markdown,
    "faults": kinds_of_faults_markdown,
    "faulttable": faults_markdown,
    "alerts": alerts_markdown,
}
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


def dry_run() -> tuple[str, str, list[tuple[str, str]]]:
    """The embedded control plane's example: catalog, configuration, and commands with what they print."""
    text = README.read_text()
    part = text[text.index("## The embedded control plane") :]
    catalog, config = re.findall(r"```yaml\n(.*?)```", part, re.DOTALL)[:2]
    shown = "".join(re.findall(r"```text\n(.*?)```", part, re.DOTALL)[:3])
    return catalog, config, re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", shown, re.MULTILINE)


def test_the_dry_run_is_what_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, config, said = dry_run()
    monkeypatch.chdir(tmp_path)
    Path("catalog.yaml").write_text(catalog)
    with running_sandbox(catalog_path=tmp_path / "catalog.yaml") as sandbox:
        place = sandbox.url.removeprefix("http://")
        Path("flowmap.yaml").write_text(config.replace("127.0.0.1:18100", place))
        for line, expected in said[1:]:
            words = shlex.split(line)
            if words[0] == "curl":
                out = httpx.put(f"{sandbox.url}/_sandbox/faults", content=words[words.index("-d") + 1]).text
            else:
                # On a terminal the answer is a table. A daemon that runs here is none of ours.
                url = ["--url", "http://127.0.0.1:9"] if words[1] == "package-users" else []
                command.main([*words[1:], "-o", "table", *url])
                printed = capsys.readouterr()
                out = printed.out + "".join(
                    x for x in printed.err.splitlines(True) if not x.startswith("flowmap: peers")
                )
            assert out.split() == expected.split(), line
    assert len(said) == 5


def mend() -> None:
    """Write the tables into README.md."""
    text = README.read_text()
    for name, table in TABLES.items():
        new = table().strip()
        text = section(name).sub(lambda match, new=new: f"{match[1]}{new}{match[3]}", text)  # type: ignore[misc]
    README.write_text(text)


if __name__ == "__main__":
    mend()
