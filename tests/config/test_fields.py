"""Types of fields: parsed, checked, and written again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from flowmap.config import fields


@pytest.mark.parametrize(
    ("kind", "value", "parsed", "written"),
    [
        (fields.Duration, "1h30m", 5400.0, "1h30m"),
        (fields.Duration, 0, 0.0, "0s"),
        (fields.Span, "250ms", 0.25, "250ms"),
        (fields.Size, "64MiB", 64 << 20, "64MiB"),
        (fields.Namespace, "default-namespace", "default-namespace", "default-namespace"),
        (fields.PeerName, "kafka west", "kafka west", "kafka west"),
        (fields.CaptureFilter, "tcp port 80", "tcp port 80", "tcp port 80"),
        (fields.NetworkText, "10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8"),
        (fields.NetworkText, "10.0.0.1/8", "10.0.0.0/8", "10.0.0.0/8"),
        (fields.NetworkText, "::ffff:10.50.0.3/128", "10.50.0.3/32", "10.50.0.3/32"),
        (fields.NetworkText, "2001:db8::5/32", "2001:db8::/32", "2001:db8::/32"),
    ],
)
def test_values(kind: Any, value: object, parsed: object, written: object) -> None:
    adapter = TypeAdapter[Any](kind)
    assert adapter.validate_python(value) == parsed
    assert adapter.dump_python(parsed, mode="json") == written


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (fields.Span, "0s", "must be longer than 0s"),
        (fields.Duration, "soon", "not a duration"),
        (fields.Namespace, ".", "is not a namespace"),
        (fields.Namespace, "a b", "is not a namespace"),
        (fields.Project, "a/b", "is not the name of a project"),
        (fields.PeerName, "other", "reserved for traffic beyond max_series"),
        (fields.CaptureFilter, "tcp\nport 80", "one line of printable characters"),
        (fields.CaptureFilter, "vlan 5", "vlan never matches"),
    ],
)
def test_values_that_cannot_be(kind: Any, value: object, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter[Any](kind).validate_python(value)


@pytest.mark.parametrize(("items", "problem"), [((), "give at least one"), (("a", "b"), None)])
def test_some(items: tuple[str, ...], problem: str | None) -> None:
    if problem is None:
        assert fields.some(items) == items
    else:
        with pytest.raises(ValueError, match=problem):
            fields.some(items)


def test_all_that_is_given_twice_is_named() -> None:
    assert fields.distinct(("a", "b")) == ("a", "b")
    with pytest.raises(ValueError, match="given more than once: a, b"):
        fields.distinct(("b", "a", "a", "b", "c"))


def test_sections_are_immutable_and_closed() -> None:
    class Example(fields.Section):
        key: int = 1

    with pytest.raises(ValidationError, match="Extra inputs"):
        Example.model_validate({"kee": 2})
    with pytest.raises(ValidationError, match="frozen"):
        Example().key = 2
