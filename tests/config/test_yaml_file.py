"""The YAML loader: values, lines, and files that are not YAML."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flowmap.config import yaml_file
from flowmap.config.yaml_file import read_text, read_yaml
from flowmap.errors import ConfigError

TEXT = """a: 1
b:
  - x
  - {c: 2026-01-31, 7: null}
"""
LINES = {
    (): 1,
    ("a",): 1,
    ("b",): 2,
    ("b", 0): 3,
    ("b", 1): 4,
    ("b", 1, "c"): 4,
    ("b", 1, "7"): 4,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "f.yaml"


def test_values_and_lines(file: Path) -> None:
    file.write_text(TEXT)
    read = read_yaml(str(file))
    assert (read.value["a"], read.value["b"][0], list(read.value["b"][1])) == (1, "x", ["c", "7"])
    assert (read.lines, read.repeated) == (LINES, ())
    assert [read.line(key) for key in (("b", 1, "c", "deeper"), ("b", 9), ("z",))] == [4, 2, 1]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_empty_file(file: Path, text: str) -> None:
    file.write_text(text)
    assert read_yaml(str(file)).value is None


def test_merge_keys_and_aliases(file: Path) -> None:
    file.write_text("base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: {<<: *base}\nsame: *base\n")
    read = read_yaml(str(file))
    assert read.value["one"] == {"a": 1, "b": 3}
    assert read.value["two"] == read.value["same"] == {"a": 1, "b": 2}
    assert read.repeated == ()


def test_repeated_key(file: Path) -> None:
    file.write_text("s:\n  a: 1\n  b: 2\n  a: 3\n")
    read = read_yaml(str(file))
    assert (read.value, read.repeated, read.line(read.repeated[0])) == ({"s": {"a": 3, "b": 2}}, (("s", "a"),), 4)


BAD = [
    ("a: [\n", ":2: not YAML: "),
    ("a: *b\n", ":1: not YAML: found undefined alias"),
    ("a: !!python/name:os.system x\n", ":1: not YAML: could not determine a constructor for the tag "),
    ("x: 1\na: 2026-13-45\n", ":2: 2026-13-45: month must be in 1..12; quote it if it is text"),
    ("a: &a\n  b: *a\n", ":1: an alias that contains itself"),
    ("a: \x00\n", ": not YAML: unacceptable character #x0000: "),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_not_yaml(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(str(file))
    assert str(caught.value).startswith(f"{file}{message}")


def test_aliases_of_aliases_are_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "LARGEST_TREE", 1000)
    file.write_text("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 9)))
    with pytest.raises(ConfigError, match="more than 1,000 values; are there aliases of aliases"):
        read_yaml(str(file))


def test_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"^/nowhere/f\.yaml: cannot be read: No such file or directory$"):
        read_yaml("/nowhere/f.yaml")


def test_not_utf8(file: Path) -> None:
    file.write_bytes(b"log: \xff")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 5\)$"):
        read_text(str(file))


def test_size_limit(file: Path) -> None:
    file.write_text("# more\n" * (1 << 18))
    with pytest.raises(ConfigError, match="larger than 1 MiB; this is not the file you mean"):
        read_text(str(file))
    assert len(read_text(str(file), largest=2 << 20)) == 7 << 18


def test_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "PIPE_TIMEOUT", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="pipe: no data in this pipe"):
        read_text(str(pipe))
    with pipe.open("r+b", buffering=0) as both_sides:
        both_sides.write(b"log: {level: debug}")
        with pytest.raises(ConfigError, match="no data in this pipe"):
            read_text(str(pipe))  # the writer keeps it open
    monkeypatch.setattr(yaml_file, "PIPE_TIMEOUT", 30.0)
    text = "log: {level: error}\n" + "# more\n" * 20_000
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    assert read_text(str(pipe)) == text
    writer.join()
