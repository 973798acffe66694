"""Output into streams that lack characters, and input that is no text in the locale."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from flowmap.cli import command
from flowmap.cli.command import COMMANDS
from flowmap.cli.output import text

CONFIG = 'control_plane: {workspace: w}\nexport: {peers: {"订单 é": ["10.0.0.9:9092"]}}\n'
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(*words: str | bytes, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """The command as a process, its output as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "flowmap", *words],
        capture_output=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **environ},
    )


def stdout(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """What is written to a stdout of this encoding from now on."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, write_through=True))
    text.escape_what_streams_lack()
    return written


ROWS = [("订单", 1), ("é", 22), ("\U0001f600" * 20, 3), ("plain", 4), ("\udcff", 5)]
SHOWN = {
    "ascii": ["\\u8ba2\\u5355", "\\xe9", "\\U0001f600\\U000...", "plain", "\\udcff"],
    "latin-1": ["\\u8ba2\\u5355", "é", "\\U0001f600\\U000...", "plain", "\\udcff"],
    "gbk": ["订单", "é", "\\U0001f600\\U0001f…", "plain", "\\udcff"],
    "utf-8": ["订单", "é", "\U0001f600" * 8 + "…", "plain", "\\udcff"],
}


@pytest.mark.parametrize("encoding", SHOWN)
def test_columns_line_up_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = stdout(monkeypatch, encoding)
    for line in text.table(("NAME", "N"), ROWS, width=22):
        sys.stdout.write(f"{line}\n")
    _, *lines = written.getvalue().decode(encoding).splitlines()
    assert [line.rpartition(" ")[0].rstrip() for line in lines] == SHOWN[encoding]
    assert len({text.cells(line) for line in lines}) == 1


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1:strict", "gbk:strict", "utf-8"])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_shown_in_every_encoding(
    name: str, encoding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = stdout(monkeypatch, encoding.partition(":")[0])
    with pytest.raises(SystemExit) as end:
        command.main([name, "--help"])
    assert end.value.code == 0
    assert b"usage: flowmap" in written.getvalue()


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1", "gbk", "utf-8", "utf-16"])
def test_what_a_program_reads_is_exact_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    name, _, _ = encoding.partition(":")
    as_yaml = run("config", "-c", str(file), PYTHONIOENCODING=encoding)
    assert yaml.safe_load(as_yaml.stdout.decode(name))["export"]["peers"] == {"订单 é": ["10.0.0.9:9092"]}
    as_json = run("config", "-c", str(file), "-o", "json", PYTHONIOENCODING=encoding)
    assert json.loads(as_json.stdout.decode(name)) == yaml.safe_load(as_yaml.stdout.decode(name))


@pytest.mark.parametrize("environ", [ASCII, {"PYTHONIOENCODING": "ascii:strict"}, {}])
def test_errors_are_shown_in_every_encoding(tmp_path: Path, environ: dict[str, str]) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("订单: 1\n", encoding="utf-8")
    done = run("config", "-c", str(file), **environ)
    assert done.returncode == 78
    shown = "订单" if not environ else "\\u8ba2\\u5355"
    assert done.stderr.decode("utf-8") == f"flowmap: {file}:1: {shown}: unknown key\n"


NO_TEXT: list[tuple[Sequence[str | bytes], dict[str, str], str]] = [
    (["flows", "--deployment", b"\xff"], {}, "\\udcff: not text in the encoding of this locale"),
    (["flows", "--deployment", "订单".encode()], ASCII, "\\udce8\\udcae\\udca2\\udce5\\udc8d\\udc95: not text"),
]


@pytest.mark.parametrize(("words", "environ", "line"), NO_TEXT)
def test_an_argument_that_is_no_text_is_said(words: Sequence[str], environ: dict[str, str], line: str) -> None:
    done = run(*words, **environ)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(f"flowmap: {line}")
    assert b"use a UTF-8 locale" in done.stderr


def test_the_environment_is_utf_8_whatever_the_locale() -> None:
    peers = 'FLOWMAP__EXPORT__PEERS={"订单": ["10.0.0.9:9092"]}'.partition("=")
    shown = run("config", "-o", "json", **ASCII, **{peers[0]: peers[2]})
    assert json.loads(shown.stdout)["export"]["peers"] == {"订单": ["10.0.0.9:9092"]}
    code = "import os, sys; os.execve(sys.argv[1], sys.argv[1:], {b'FLOWMAP__LOG__LEVEL': b'\\xff'})"
    words = [sys.executable, "-c", code, sys.executable, "-m", "flowmap", "config"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (78, "flowmap: FLOWMAP__LOG__LEVEL: log.level: is not UTF-8 text\n")
