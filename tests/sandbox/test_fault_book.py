"""Faults: every kind has its function, and they hit what they are meant for."""

from __future__ import annotations

import pytest

from flowmap.errors import ConfigError
from flowmap.sandbox.fault_book import Fault, FaultBook, parse_faults


def book(*faults: Fault) -> FaultBook:
    made = FaultBook()
    made.replace(list(faults))
    return made


def taken(faults: FaultBook, *requests: tuple[str, str]) -> list[str | None]:
    found = [faults.match(operation, shape) for operation, shape in requests]
    return [fault.kind if fault else None for fault in found]


IP, LIST = ("GetDeploymentsByIp", "client"), ("ListDeployments", "")


def test_times_and_skip() -> None:
    assert taken(book(Fault(kind="error", times=2)), IP, LIST, IP) == ["error", "error", None]
    assert taken(book(Fault(kind="error", skip=1, times=1)), IP, IP, IP) == [None, "error", None]
    assert taken(book(Fault(kind="error")), *[IP] * 5) == ["error"] * 5


def test_operation_and_shape() -> None:
    assert taken(book(Fault(kind="error", operation="ListDeployments")), IP, LIST) == [None, "error"]
    assert taken(book(Fault(kind="error", shape="sink")), IP, ("GetDeploymentsByIp", "sink")) == [None, "error"]


def test_the_first_that_fits_is_taken() -> None:
    made = book(Fault(kind="empty", times=1), Fault(kind="cut"))
    assert taken(made, IP, IP) == ["empty", "cut"]
    assert made.applied == {"empty": 1, "cut": 1}
    made.replace([])
    assert taken(made, IP) == [None]


def test_a_clock_that_is_off_is_off_for_all() -> None:
    assert book(Fault(kind="clock", seconds=7), Fault(kind="clock", seconds=-2)).clock_offset == 5


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([{"kind": "earthquake"}], "0.kind"),
        ([{"kind": "error"}, {"kind": "error", "times": 0}], "1.times"),
        ([{"kind": "error", "what": 1}], "0.what"),
        ({}, "faults"),
        ([7], "0"),
    ],
)
def test_bad_faults_say_where(value: object, place: str) -> None:
    with pytest.raises(ConfigError, match=place):
        parse_faults(value)
