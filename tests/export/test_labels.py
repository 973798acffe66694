"""Label values from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from flowmap.export.labels import LONGEST, clean, joined, label_name, label_names, label_text, quoted, quoted_list

HOSTILE = st.text(st.characters(codec=None), max_size=200) | st.text('a\\",\n~0f', max_size=40)

CLEAN_ROWS = [
    ("orders", "orders"),
    ("", ""),
    ("订单", "订单"),
    ("a\nb", "a\nb"),
    ("x" * 128, "x" * 128),
    ("nul\x00", "nul\ufffd~"),
    ("\ud800", "\ufffd~"),
    ("tab\t", "tab\ufffd~"),
    ("\x85\u2028\u202e", "\ufffd\ufffd\ufffd~"),
    ("x" * 129, "x" * 111 + "~"),
    ("a~0123456789abcdef", "a~0123456789abcdef~"),
]


@pytest.mark.parametrize(("value", "expected"), CLEAN_ROWS)
def test_clean(value: str, expected: str) -> None:
    cleaned = clean(value)
    if expected.endswith("~"):
        assert cleaned[:-16] == expected
        assert set(cleaned[-16:]) <= set("0123456789abcdef")
    else:
        assert cleaned == expected


@given(HOSTILE, HOSTILE)
def test_clean_keeps_values_apart(one: str, other: str) -> None:
    assert (clean(one) == clean(other)) == (one == other)
    assert len(clean(one)) <= LONGEST


@given(HOSTILE)
def test_no_value_passes_for_a_changed_one(value: str) -> None:
    changed = clean(value + "\x00")
    assert clean(changed) != changed


@given(st.lists(HOSTILE, min_size=1, max_size=4), st.lists(HOSTILE, min_size=1, max_size=4))
def test_joined_keeps_lists_apart(one: list[str], other: list[str]) -> None:
    assert (joined(one) == joined(other)) == (one == other)


def test_joined_escapes_commas() -> None:
    assert joined(["a,b", "c"]) == "a\\,b,c"
    assert quoted_list(["a,b", 'c"']) == '"a\\\\,b,c\\""'


@given(HOSTILE)
def test_a_page_with_any_value_parses(value: str) -> None:
    text = label_text([("a", quoted(value)), ("b", '"x"')])
    page = f"m{text}1\n".encode().decode()
    (family,) = text_string_to_metric_families(page)
    assert family.samples[0].labels == {"a": clean(value), "b": "x"}


def test_label_text_without_labels() -> None:
    assert label_text([]) == " "


NAME_ROWS = [
    ("team", "team"),
    ("ownerTeam", "owner_team"),
    ("app.kubernetes.io/name", "app_kubernetes_io_name"),
    ("部", "_"),
]


@pytest.mark.parametrize(("key", "name"), NAME_ROWS)
def test_label_name(key: str, name: str) -> None:
    assert label_name(key) == name


def test_label_names_that_collide() -> None:
    assert label_names(["a.b", "a-b", "a_b", "a-b"], prefix="label_") == {
        "a-b": "label_a_b",
        "a.b": "label_a_b_2",
        "a_b": "label_a_b_3",
    }
    assert label_names(["a_b_2", "a.b", "a_b"], prefix="") == {"a.b": "a_b", "a_b": "a_b_2", "a_b_2": "a_b_2_2"}
