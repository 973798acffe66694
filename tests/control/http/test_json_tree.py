"""JSON of a server, with values that JSON does not allow."""

from __future__ import annotations

import pytest

from flowmap.control.http.json_tree import LONGEST_NUMBER, UNREADABLE, read_tree

ROWS: list[tuple[bytes, object]] = [
    (b"{}", {}),
    (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    (b"[1, 2.5, null, true]", [1, 2.5, None, True]),
    (b"[NaN, Infinity, -Infinity]", [UNREADABLE] * 3),
    (b"[NaN, 1e999]", [UNREADABLE, UNREADABLE]),
    (b"[NaN, %s]" % (b"9" * LONGEST_NUMBER), [UNREADABLE, int("9" * LONGEST_NUMBER)]),
    (b"[NaN, %s]" % (b"9" * (LONGEST_NUMBER + 1)), [UNREADABLE, UNREADABLE]),
    (b'["a\nb"]', ["a\nb"]),
    (b'["\\ud800"]', ["\ud800"]),
    (b'["\xff"]', ["\udcff"]),
]


@pytest.mark.parametrize(("body", "tree"), ROWS)
def test_a_tree(body: bytes, tree: object) -> None:
    assert read_tree(body) == tree


@pytest.mark.parametrize("body", [b"", b"{", b"nil", b'{"a": 1} x', b"[" * 100_000, b"\x00"])
def test_not_json(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_tree(body)
