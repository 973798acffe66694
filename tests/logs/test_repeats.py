"""Rate limit of repeated lines."""

from __future__ import annotations

import pytest

from flowmap.logs.repeats import BURST, KINDS, LONGEST, WINDOW, LineKind, Repeats, Suppressed


def kind(n: int) -> LineKind:
    return LineKind("flowmap.x", 30, f"template {n}")


def test_summary_after_the_window() -> None:
    repeats = Repeats()
    shown = [repeats.admit(kind(1), now=0.1 * n) for n in range(100)]
    assert shown == [True] * BURST + [False] * (100 - BURST)
    assert repeats.admit(kind(2), now=10.0), "another kind has its own window"
    assert repeats.due(WINDOW - 1) == []
    assert repeats.due(WINDOW) == [Suppressed(kind(1), 100 - BURST, "")]
    assert repeats.due(WINDOW) == []
    assert repeats.admit(kind(1), now=WINDOW + 1)


def test_slow_repeats_are_admitted() -> None:
    repeats = Repeats()
    assert all(repeats.admit(kind(1), now=10.0 * n) for n in range(100))


def test_lines_after_the_window_count_until_the_summary() -> None:
    repeats = Repeats()
    for _ in range(BURST + 5):
        repeats.admit(kind(1), now=0.0)
    assert not repeats.admit(kind(1), now=WINDOW + 5)
    assert repeats.due(WINDOW + 6) == [(kind(1), 6, "")]


def test_final_summary() -> None:
    repeats = Repeats()
    for _ in range(BURST + 1):
        repeats.admit(kind(1), now=0.0)
    assert repeats.due(1.0, final=True) == [(kind(1), 1, "")]


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (["a", "b"], "b"),
        (["x" * LONGEST], "x" * LONGEST),
        (["x" * (LONGEST + 1)], "x" * LONGEST + "…"),
    ],
    ids=["last", "longest", "longer"],
)
def test_last_line_of_a_kind(lines: list[str], last: str) -> None:
    repeats = Repeats()
    for _ in range(BURST):
        repeats.admit(kind(1), now=0.0)
    for line in lines:
        assert not repeats.admit(kind(1), now=0.0)
        repeats.keep(kind(1), line)
    assert repeats.due(WINDOW) == [(kind(1), len(lines), last)]


def test_kinds_are_bounded() -> None:
    repeats = Repeats()
    for n in range(3 * KINDS):
        for _ in range(BURST + 1):
            repeats.admit(kind(n), now=0.0)
    assert repeats.due(WINDOW) == [(kind(n), 1, "") for n in range(2 * KINDS, 3 * KINDS)]
