"""Errors as lines for the user."""

from __future__ import annotations

import pytest

from flowmap.cli.failures import describe
from flowmap.errors import ConfigError, SourceDenied


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ConfigError("a: wrong\nb: wrong, too"), ["a: wrong", "b: wrong, too"]),
        (SourceDenied("cannot join", remedy="give CAP_NET_ADMIN"), ["cannot join; give CAP_NET_ADMIN"]),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), ["x.yaml: No such file or directory"]),
        (BrokenPipeError(32, "Broken pipe"), ["Broken pipe"]),
        (
            UnicodeEncodeError("utf-8", "a\udcffb", 1, 2, "surrogates"),
            ["\udcff: not text in the encoding of this locale; use a UTF-8 locale, like LC_ALL=C.UTF-8"],
        ),
    ],
)
def test_a_line_for_each_problem(error: Exception, lines: list[str]) -> None:
    assert describe(error) == lines


@pytest.mark.parametrize("error", [KeyError("x"), OSError(), UnicodeEncodeError("utf-8", "ab", 0, 1, "no")])
def test_a_defect_says_so(error: Exception) -> None:
    (line,) = describe(error)
    assert type(error).__name__ in line
