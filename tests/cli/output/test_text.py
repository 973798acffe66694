"""Tables and text for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.cli.output.text import NARROWEST, amount, cells, clean, cut, table

HOSTILE = [
    ("plain", "plain"),
    ("Zürich 订单", "Zürich 订单"),
    ("\x1b[2J", "\\x1b[2J"),
    ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ("\x9b31m", "\\x9b31m"),
    ("a\rb\nc\td", "a\\rb\\nc\\td"),
    ("abc\u202ecba", "abc\\u202ecba"),
    ("line\u2028end", "line\\u2028end"),
    ("\ud800", "\\ud800"),
    ("\x7f", "\\x7f"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    assert clean(text).isprintable()


@given(st.text(), st.integers(1, 30))
def test_cut_text_fits(text: str, width: int) -> None:
    shown = cut(clean(text), width)
    assert cells(shown) <= width
    assert shown == clean(text) or shown.endswith("…")


AMOUNTS = [
    (0, "0 B"),
    (999, "999 B"),
    (1000, "1.0 kB"),
    (1234, "1.2 kB"),
    (999_949, "999.9 kB"),
    (999_950, "1.0 MB"),
    (1_500_000_000, "1.5 GB"),
    (10**18, "1000000.0 TB"),
]


@pytest.mark.parametrize(("count", "text"), AMOUNTS)
def test_amount(count: int, text: str) -> None:
    assert amount(count) == text


def test_numbers_stand_on_the_right_and_wide_characters_count_twice() -> None:
    assert table(("NAME", "N"), [("订单", 5), ("a", None), ("b", 1234)]) == [
        "NAME     N",
        "订单     5",
        "a        -",
        "b     1234",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(("A", "B"), []) == ["A  B"]


def test_a_table_is_cut_at_its_widest_columns() -> None:
    lines = table(("A", "B"), [("x" * 40, "y" * 5)], width=30)
    assert lines[1] == "x" * 22 + "…" + "  " + "yyyyy"
    assert all(cells(line) <= 30 for line in lines)


def test_columns_keep_a_least_width() -> None:
    (_, line) = table(("A", "B"), [("x" * 40, "y" * 40)], width=3)
    assert line == "x" * (NARROWEST - 1) + "…" + "  " + "y" * (NARROWEST - 1) + "…"


def test_data_cannot_break_a_line() -> None:
    assert table(("A",), [("one\ntwo\x1b[0m",)])[1:] == ["one\\ntwo\\x1b[0m"]
