"""Text from a server, made safe to print."""

from __future__ import annotations

import pytest

from flowmap.control.http.text import plain_text


@pytest.mark.parametrize("text", ["", '""', " ", None, 7])
def test_two_quotes_are_none(text: object) -> None:
    assert plain_text(text) is None


def test_plain_text_is_printable_and_short() -> None:
    assert plain_text("a\nb\x1b[31m\u202ec") == "a b [31m c"
    assert len(plain_text("x" * 5000) or "") == 300
