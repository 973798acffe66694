"""The command: exit statuses, and one line for every error."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import flowmap
from flowmap import errors
from flowmap.cli import command
from flowmap.cli.command import COMMANDS
from flowmap.config import example_yaml, schema

HEAVY = ("numpy", "rich", "pydantic", "httpx", "yaml", "starlette", "uvicorn", "prometheus_client", "scapy", "asyncio")


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "flowmap", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", **environ},
    )


def test_version_is_said_without_importing_anything_heavy() -> None:
    code = (
        "import sys, flowmap.cli\n"
        "try: flowmap.cli.main(['--version'])\n"
        f"except SystemExit as end: print(end.code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == f"flowmap {flowmap.__version__}\n0 []\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([name, "--help"])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert COMMANDS[name].summary.replace(" ", "") in said.replace(" ", "")
    assert "--log-level" in said


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_overview_lists_every_command_in_its_group(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line[:2] == "  " and line[2:3].isalpha()]
    assert listed == list(COMMANDS)
    assert all(f"{title}:" in lines for title in command.GROUPS)


USAGE = [
    [],
    ["nonsense"],
    ["query"],
    ["query", "10.0.0.1"],
    ["query", "10.0.0.1", "host"],
    ["query", "10.0.0.1", "10.0.0.2", "-o", "xml"],
    ["flows", "--limit", "0"],
    ["flows", "--state", "lost"],
    ["demo", "--duration", "soon"],
    ["demo", "--listen", "10817"],
    ["run", "extra"],
    ["config", "--schema", "--example"],
    ["--log-level", "loud", "run"],
    ["deployments"],
    ["deployments", "all"],
    ["deployments", "by-ip", "--src-port", "0"],
    ["deployments", "by-label", "team"],
    ["deployments", "by-label", "team", "a,,b"],
    ["deployments", "list", "--label", "team"],
    ["deployments", "list", "--label", "=a"],
    ["jobs"],
    ["packages", "project"],
    ["package-users"],
]


@pytest.mark.parametrize("words", USAGE)
def test_usage_errors_are_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: flowmap")


Raise = Callable[[argparse.Namespace], int]


def failing(error: BaseException) -> Raise:
    def fail(_: argparse.Namespace) -> int:
        raise error

    return fail


ERRORS = [
    (errors.ConfigError("a.yaml:1: x: wrong\na.yaml:2: y: wrong"), 78, ["a.yaml:1: x: wrong", "a.yaml:2: y: wrong"]),
    (errors.SourceDenied("no permission", remedy="give CAP_NET_ADMIN"), 1, ["no permission; give CAP_NET_ADMIN"]),
    (errors.QueryError("bad \x1b[31m"), 1, ["bad \\x1b[31m"]),
    (FileNotFoundError(2, "No such file or directory", "x"), 1, ["x: No such file or directory"]),
    (ZeroDivisionError("oops"), 1, [errors.describe_defect(ZeroDivisionError("oops"))]),
    (KeyboardInterrupt(), 130, []),
]


@pytest.mark.parametrize(("error", "status", "lines"), ERRORS)
def test_what_becomes_of_errors(
    error: BaseException,
    status: int,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("flowmap.cli.daemon.config.run", failing(error))
    assert command.main(["config"]) == status
    assert capsys.readouterr().err.splitlines() == [f"flowmap: {line}" for line in lines]


@pytest.mark.parametrize("words", [["deployments", way] for way in ("by-ip", "by-label", "list")])
def test_every_way_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([*words, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--namespace", "--config", "--output", "--log-level"))


@pytest.mark.parametrize("words", [["--log-level", "debug", "config"], ["config", "--log-level", "debug"]])
def test_debug_shows_where(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowmap.cli.daemon.config.run", failing(errors.QueryError("x")))
    assert command.main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("flowmap: x\n")


def test_a_reader_that_leaves_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "flowmap", "config", "--schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


@pytest.mark.parametrize(
    ("words", "closed", "status", "out", "err"),
    [
        (["config"], ">&-", 0, "", ""),
        (["config"], "2>&-", 0, "control_plane:", ""),
        (["config"], "<&- >&- 2>&-", 0, "", ""),
        (["--version"], ">&-", 0, "", ""),
        (["replay", "/nowhere"], "2>&-", 1, "", ""),
        (["replay", "/nowhere"], ">&-", 1, "", "flowmap: /nowhere: No such file or directory\n"),
    ],
)
def test_closed_streams_are_as_dev_null(words: list[str], closed: str, status: int, out: str, err: str) -> None:
    result = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-m", "flowmap", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout.partition("\n")[0], result.stderr) == (status, out, err)


def test_run_with_nobody_to_ask_is_78() -> None:
    result = run("run")
    assert result.returncode == 78
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        ["flowmap", "control_plane.region"],
        ["flowmap", "control_plane.workspace"],
    ]


def test_run_with_a_bad_file_is_78(tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("collect:\n  conntrack: {resnc: 1s}\n")
    result = run("run", "-c", str(file))
    assert result.returncode == 78
    assert result.stderr == (f"flowmap: {file}:2: collect.conntrack.resnc: unknown key (did you mean resync?)\n")


def test_config_shows_what_is_in_force() -> None:
    shown = run("config", FLOWMAP__CONTROL_PLANE__CREDENTIALS='{"access_key_id": "a", "access_key_secret": "b7"}')
    assert yaml.safe_load(shown.stdout)["control_plane"]["credentials"]["access_key_secret"] == "<secret>"
    assert "b7" not in shown.stdout
    as_json = run("config", "-o", "json", FLOWMAP__HTTP__LISTEN="[::1]:5")
    assert json.loads(as_json.stdout)["http"]["listen"] == "[::1]:5"


def test_config_prints_schema_and_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert command.main(["config", "--example"]) == 0
    assert capsys.readouterr().out == example_yaml()


def test_a_defect_says_what_to_send_and_to_whom() -> None:
    said = errors.describe_defect(ZeroDivisionError("oops"))
    for part in (
        flowmap.__version__,
        "ZeroDivisionError: oops",
        "--log-level debug",
        "`flowmap config`",
        "the supplier",
    ):
        assert part in said
