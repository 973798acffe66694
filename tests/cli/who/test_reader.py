"""What real programs print, and tables and records of several lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.cli.who.reader import HOST_NAME, TextReader

DATA = Path(__file__).parents[2] / "data" / "process_lists"
EXPECTED: dict[str, list[list[object]]] = json.loads((DATA / "expected.json").read_text())


def mentioned(text: str) -> list[list[object]]:
    """Number of the line and connection of every mention; ``?`` for a remark."""
    reader, found = TextReader(), list[list[object]]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = reader.read(raw)
        assert line.text == raw
        found += [[number, str(mention)] for mention in line.mentions]
        found += [[number, "?"]] if line.remark else []
    return found


def test_every_sample_is_checked() -> None:
    assert {file.name for file in DATA.glob("*.txt")} == EXPECTED.keys()
    assert all(EXPECTED.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_samples(name: str) -> None:
    assert mentioned((DATA / name).read_text()) == EXPECTED[name]


TEXTS = [
    # a count beside an address is no port
    ("client_addr|count\n10.0.0.1|40000", [[2, "10.0.0.1"]]),
    ("client_addr|client_port\n10.0.0.1|40000", [[2, "10.0.0.1:40000"]]),
    ("client_port|client_addr\n40000|10.0.0.1", [[2, "10.0.0.1:40000"]]),
    ("client_addr|client_port\n|-1", []),
    ("client_addr|client_port\n10.0.0.1|-1", []),
    ("Host\tUser\n%\tflink\nlocalhost\troot", []),
    ("Host\tUser\nnode-7:40000\tflink", [[2, "?"]]),
    # a header counts for rows with as many cells only
    ("client_addr|client_port\n10.0.0.1:7|a|b", [[2, "10.0.0.1:7"]]),
    # an address without its port in a record says nothing yet
    ("client_addr | 10.0.0.1\nstate | idle", []),
    ("client_port | 40000", []),
    ("Host: kafka-1\nto 10.0.0.1:9 it goes", [[2, "10.0.0.1:9"]]),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_tables_and_records(text: str, expected: list[list[object]]) -> None:
    assert mentioned(text) == expected


def test_a_host_name_is_explained() -> None:
    reader = TextReader()
    reader.read("| Host | User |")
    assert reader.read("| node-7:40000 | flink |").remark == HOST_NAME


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="0123456789abcdef:.[]|()>-=\t rsc"))
def test_any_text_comes_back_as_it_is(text: str) -> None:
    line = TextReader().read(text)
    assert line.text == text
    assert len(line.mentions) <= 8


@pytest.mark.parametrize("part", ["a", ":", " ", "f:", "a:b ", "1.", "| ", "tcp ", "host: ", "src=1 ", "client: "])
def test_long_lines_of_anything_are_read_in_one_pass(part: str) -> None:
    for line in (part * 100_000, f"Host: {part * 100_000}x", f"tcp 0 0 {part * 100_000}"):
        assert TextReader().read(line).mentions == ()
