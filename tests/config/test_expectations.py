"""The file of expectations."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.config import load, read_expectations
from flowmap.errors import ConfigError
from flowmap.model.expectation import Expectation
from flowmap.model.selection import LabelFilter


def test_entries(tmp_path: Path) -> None:
    file = tmp_path / "expect.yaml"
    file.write_text(
        "expect:\n"
        "  - deployment: orders-*\n    peers: [kafka, 'mysql-*']\n    forbidden: [10.0.0.9:22]\n"
        "  - {label: 'team=a,b', peers: [redis]}\n"
    )
    assert read_expectations(str(file)) == (
        Expectation(("kafka", "mysql-*"), ("10.0.0.9:22",), "orders-*", None),
        Expectation(("redis",), (), None, LabelFilter("team", ("a", "b"))),
    )
    assert read_expectations(None) is None


WRONG = [
    ("expect: 3\n", ":1: expect: "),
    ("expect:\n  - {peers: [a]}\n", ":2: expect.0: give deployment or label"),
    ("expect:\n  - deployment: a\n    peer: [a]\n", ":3: expect.0.peer: "),
    ("expect:\n  - {label: team, peers: [a]}\n", ":2: expect.0: label 'team': write it like"),
    ("expect:\n  - {deployment: a, peers: kafka}\n", ":2: expect.0.peers: "),
    ("expect: [\n", "not YAML"),
    ("expect:\n  - {deployment: a, peers: ['']}\n", ":2: expect.0.peers.0: "),
    ("", "expect.yaml: expect: "),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_not_valid_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file, config = tmp_path / "expect.yaml", tmp_path / "flowmap.yaml"
    file.write_text(text)
    config.write_text(f"expect: {{file: {file}}}\n")
    with pytest.raises(ConfigError) as failure:
        read_expectations(str(file))
    assert message in str(failure.value)
    with pytest.raises(ConfigError) as failure:
        load(str(config), {})
    assert str(failure.value).startswith(f"{config}:1: expect.file: ")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_expectations(str(tmp_path / "none"))
