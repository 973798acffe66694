"""The documents: generated tables are in step with the code; links, commands, options, metrics and keys exist.

Write the tables again with ``python -m tests.test_docs``.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml
from pydantic import BaseModel

from flowmap.cli import command
from flowmap.cli.command import COMMANDS
from flowmap.cli.fleet.command import WAYS
from flowmap.config import Config, config_markdown
from flowmap.export.metrics.definitions import BY_NAME, metrics_markdown
from flowmap.sandbox.demo.demo import Demo
from flowmap.sandbox.fault_book import DESCRIPTIONS
from flowmap.serve.api.app import PAGES
from flowmap.serve.api.endpoints import ENDPOINTS, STREAM
from tests.faults.table import faults_markdown
from tests.support.sandbox import running_sandbox

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "flowmap"
README = ROOT / "README.md"
SANDBOX = ROOT / "flowmap" / "sandbox" / "README.md"
DOCUMENTS = [README] + [
    file
    for folder in ("flowmap", "config", "systemd", "tests")
    for file in sorted((ROOT / folder).rglob("README.md"))
    if "data" not in file.parts
]
"""Every document for people; what tests/data holds is described for testers only."""

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))


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


def paths_markdown() -> str:
    """What each path of the HTTP interface answers, and its parameters."""
    rows = [f"| `{page.path}` | {page.summary} | |" for page in PAGES]
    for endpoint in (*ENDPOINTS, STREAM):
        names = ", ".join(f"`{name}`" for name in endpoint.names())
        names = "POST; " + _fields_of(endpoint.body) if endpoint.body is not None else names
        rows.append(f"| `{endpoint.path}` | {endpoint.summary} | {names} |".replace("|  |", "| |"))
    return "\n".join(("| path | answer | parameters |", "|---|---|---|", *rows))


def _fields_of(body: type[BaseModel]) -> str:
    return "body: " + ", ".join(f"`{field.alias}`" for field in body.model_fields.values())


class Table(NamedTuple):
    """One generated table."""

    document: Path
    make: Callable[[], str]


TABLES = {
    "paths": Table(ROOT / "flowmap" / "serve" / "README.md", paths_markdown),
    "config": Table(ROOT / "config" / "README.md", config_markdown),
    "metrics": Table(ROOT / "flowmap" / "export" / "README.md", metrics_markdown),
    "faults": Table(SANDBOX, kinds_of_faults_markdown),
    "faulttable": Table(ROOT / "tests" / "README.md", faults_markdown),
    "alerts": Table(ROOT / "config" / "prometheus" / "README.md", alerts_markdown),
}
"""What stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""


def section(name: str) -> re.Pattern[str]:
    """The generated part: what is before it, the part itself, and what is after."""
    return re.compile(rf"(<!-- {name}:begin[^>]*-->\n\n?)(.*?)\n?(<!-- {name}:end -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_table_is_in_step(name: str) -> None:
    document, make = TABLES[name]
    found = section(name).findall(document.read_text())
    assert len(found) == 1, f"{document} needs one <!-- {name}:begin --> … <!-- {name}:end -->"
    assert found[0][1].strip() == make().strip(), "run: python -m tests.test_docs"


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def spans(document: Path) -> list[str]:
    """All inline code."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def anchors(document: Path) -> set[str]:
    """What ``#…`` of a link to this document may name, by GitHub's rule."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            file = (document.parent / path) if path else document
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def test_files_that_the_guide_names_exist() -> None:
    named = [span for span in spans(ROOT / "flowmap" / "README.md") if re.fullmatch(r"[a-z_/.]+(\.py|\.yml|/)", span)]
    missing = [
        name
        for name in named
        if not ((PACKAGE / name).exists() or (ROOT / name).exists() or ("/" not in name and any(PACKAGE.rglob(name))))
    ]
    assert missing == []


def test_readme_can_be_read_in_five_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 300


def test_readme_leads_to_every_document() -> None:
    linked = {
        (ROOT / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)]+)\)", README.read_text())
    }
    assert [file for file in DOCUMENTS[1:] if file.resolve() not in linked] == []


def test_readme_names_every_command() -> None:
    text = README.read_text()
    assert [name for name in COMMANDS if f"flowmap {name}" not in text] == []


def test_readme_shell_blocks_are_run_or_marked() -> None:
    run = subprocess.run([ROOT / ".ci" / "run", "--commands"], capture_output=True, text=True, check=True).stdout
    for block in blocks(README, "sh"):
        assert block.strip() in run.splitlines() or "Not run by a test" in block.splitlines()[0], block


def test_the_configuration_of_readme_is_the_smallest_one() -> None:
    (shown,) = blocks(README, "yaml")
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "config" / "minimal.yaml").read_text())


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of each command, from its help."""
    return {name: set(_options_of(name)) for name in COMMANDS}


SUBCOMMANDS = {
    "deployments": ("by-ip", "by-label", "list"),
    "fleet": tuple(WAYS),
    "expect": ("init", "check"),
}


def _options_of(name: str) -> Iterator[str]:
    for words in ([name], *([name, sub] for sub in SUBCOMMANDS.get(name, ()))):
        with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
            command.main([*words, "--help"])
        yield from re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown.getvalue())


def command_lines(document: Path) -> list[str]:
    """What is said of ``flowmap COMMAND``: in sessions, in indented lines and in inline code."""
    text = document.read_text()
    return re.findall(r"^(?:\$ |    )(flowmap .*)$", text, re.MULTILINE) + [
        span for span in spans(document) if span.startswith("flowmap ")
    ]


@each_document
def test_commands_and_their_options_exist(document: Path, options: dict[str, set[str]]) -> None:
    for line in command_lines(document):
        _, name, *words = line.partition("  #")[0].split()
        assert name in options, line
        assert {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)} <= options[name], line


@each_document
def test_options_that_stand_alone_exist(document: Path, options: dict[str, set[str]]) -> None:
    if ROOT / "tests" not in document.parents:  # those of the test programs are another matter
        known = set().union(*options.values(), {"--cap-add", "--version"})
        said = {span.split()[0] for span in spans(document) if span.startswith("--")}
        assert said - known == set()


COMING: set[str] = set()
"""Metrics that the documents call by the name they are about to get; empty when the renaming is done."""


@each_document
def test_metrics_exist(document: Path) -> None:
    text = re.sub(r"<!-- renames:.*?<!-- renames: end -->", "", document.read_text(), flags=re.DOTALL)
    known = BY_NAME.keys() | COMING
    for name in re.findall(r"\bflowmap_[a-z_*]+", text):
        pattern = re.compile(name.replace("*", "[a-z_]+"))
        assert any(pattern.fullmatch(metric) for metric in known), name


def test_metrics_to_come_are_not_there_yet() -> None:
    assert BY_NAME.keys() & COMING == set(), "renamed: take it out of COMING"


@each_document
def test_keys_exist(document: Path) -> None:
    sections = "|".join(Config.model_fields)
    for span in spans(document):
        if re.fullmatch(rf"({sections})(\.[a-z_]+)+(:.*)?", span) and span not in CHECKS:
            value = Config().model_dump()
            for name in span.partition(":")[0].split("."):
                assert name in value, span
                value = value[name]


@each_document
def test_http_paths_exist(document: Path) -> None:
    known = {declared.path for declared in (*PAGES, *ENDPOINTS, STREAM)} | {"/api/v1"}
    for span in spans(document):
        if re.match(r"/(api/v1|-/|metrics)", span):
            assert span.partition("?")[0] in known, span


CHECKS = {"http.certificate"}
"""Lines of ``flowmap check`` that look like keys."""


def normal(text: str) -> list[str]:
    """The words of a session without what differs from run to run: numbers, sizes, times, rules of time, cgroups."""
    text = re.sub(r"^  local .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\d[\d.,:TZ-]*(?: [kMG]?B)?|\b(?:inside|grace|around|corroborated)\b", "#", text).split()


def test_the_query_of_readme_is_what_the_demo_answers(capsys: pytest.CaptureFixture[str]) -> None:
    ((line, expected),) = [
        session
        for block in blocks(README, "text")
        for session in re.findall(r"^\$ (flowmap query .*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]
    with Demo("127.0.0.1", 0) as demo:
        words = [word.replace("127.77.", f"127.{demo.block}.") for word in shlex.split(line)[1:]]
        deadline = time.monotonic() + 30
        shown = ""
        while normal(shown) != normal(expected) and time.monotonic() < deadline:
            time.sleep(0.5)
            command.main([*words, "-o", "table", "--url", demo.url])
            shown = capsys.readouterr().out
    assert normal(shown) == normal(expected)


def test_the_two_commands_are_found_by_ci() -> None:
    said = subprocess.run([ROOT / ".ci" / "run", "--commands"], capture_output=True, text=True, check=True).stdout
    demo, test = said.splitlines()
    assert "flowmap demo" in demo
    assert "pytest" in test


def dry_run() -> tuple[str, str, list[tuple[str, str]]]:
    """The embedded control plane's example: catalog, configuration, and commands with what they print."""
    catalog, config = blocks(SANDBOX, "yaml")
    shown = "".join(blocks(SANDBOX, "text"))
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
    """Write the tables into their documents."""
    for name, (document, make) in TABLES.items():
        new = make().strip()
        text = document.read_text()
        document.write_text(section(name).sub(lambda match, new=new: f"{match[1]}{new}\n{match[3]}", text))  # type: ignore[misc]


if __name__ == "__main__":
    mend()
