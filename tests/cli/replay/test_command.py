"""replay: what it prints, what it refuses."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.replayed import run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "a recording of flowmap run"),
        (b"\x89flowmap\r\n\x1a\n", "before the first entry"),
        (b"\x89flowmap\n", "a recording of flowmap run"),
    ],
)
def test_other_files_are_refused_in_one_line(
    content: bytes, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    status, out, err = run(capsys, str(file))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_what_does_not_go_together(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(capsys, str(path), "-c", "flowmap.yaml")
    assert (status, err.count("\n")) == (1, 1)
    assert "-c works only with --dry-run" in err
    status, _, err = run(capsys, str(tmp_path / "missing"))
    assert (status, err) == (1, f"flowmap: {tmp_path / 'missing'}: No such file or directory\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--explain"], "--explain: has an effect only with --query"),
        (["--protocol", "tcp"], "--protocol: has an effect only with --query"),
        (["--query", "10.0.0.1", "10.0.0.2", "-o", "prometheus"], "--query: has no prometheus output"),
        (["--tunnels", "outer"], "--tunnels: work only with captures"),
    ],
)
def test_options_without_effect_are_refused(
    path: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    status, out, err = run(capsys, str(path), *words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert complaint in err


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (os.mkfifo, "a pipe cannot be replayed; write it to a file first"),
        (Path.mkdir, "a directory cannot be replayed, only a file in it"),
        (a_socket, "a device or socket cannot be replayed, only a file"),
        (lambda path: path.symlink_to("/dev/zero"), "a device or socket cannot be replayed, only a file"),
    ],
)
def test_what_is_no_file_is_not_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Any, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("it"))
    assert run(capsys, "it") == (1, "", f"flowmap: it: {complaint}\n")


@pytest.mark.parametrize("text", ["garbage", "2h", ""])
def test_until_wants_a_time(path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        run(capsys, str(path), "--until", text)
    said = f"'{text}' is not a time; write it like 2026-11-21T20:16:07Z, or as seconds since the epoch\n"
    assert capsys.readouterr().err.endswith(said)
