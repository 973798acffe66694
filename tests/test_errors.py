"""The error tree: every class is in the drawing, and reasons fit a metric label."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from flowmap import errors
from flowmap.errors import ControlError, FlowmapError, ProtocolError, Transient, describe_defect


def subclasses(kind: type[FlowmapError]) -> Iterator[type[FlowmapError]]:
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from subclasses(one)


def test_the_drawing_has_every_class() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {one.__name__ for one in subclasses(FlowmapError)}


@pytest.mark.parametrize("kind", [one for one in subclasses(FlowmapError) if issubclass(one, ControlError)])
def test_reason_is_a_label(kind: type[ControlError]) -> None:
    assert re.fullmatch("[a-z_]+", kind("text").reason)
    assert kind("text", reason="dns").reason == "dns"


def test_a_finer_reason_is_of_one_error_only() -> None:
    assert (Transient("a", reason="tls").reason, Transient("b").reason) == ("tls", "transient")
    assert ProtocolError("c").reason == "protocol"


def test_a_defect_says_what_to_report() -> None:
    text = describe_defect(KeyError("x"))
    assert "KeyError: 'x'" in text and "please report it" in text
