"""Waits and hints, as rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.http.retry import (
    LONGEST_HINT,
    LONGEST_WAIT,
    full_jitter,
    parse_date,
    server_hint,
    worth_repeating,
)
from flowmap.errors import AuthError, BadRequest, BusinessError, ControlError, ProtocolError, Throttled, Transient

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z

HINTS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"x-acs-retry-after": "250"}, 0.25),
    ({"x-acs-retry-after": " 250 "}, 0.25),
    ({"x-acs-retry-after": "0"}, None),
    ({"x-acs-retry-after": "-250"}, None),
    ({"x-acs-retry-after": "soon"}, None),
    ({"x-acs-retry-after": "٢"}, None),
    ({"x-acs-retry-after": "9" * 20}, LONGEST_HINT),
    ({"x-acs-retry-after": "9" * 5000}, LONGEST_HINT),
    ({"x-acs-retry-after": "soon", "retry-after": "3"}, 3.0),
    ({"x-acs-retry-after": "500", "retry-after": "3"}, 0.5),
    ({"retry-after": "3"}, 3.0),
    ({"retry-after": "3600"}, LONGEST_HINT),
    ({"retry-after": "-1"}, None),
    ({"retry-after": "1.5"}, None),
    ({"retry-after": "Thu, 01 Jan 2026 00:00:07 GMT"}, 7.0),
    ({"retry-after": "Thu, 01 Jan 2026 01:00:07 +0100"}, 7.0),
    ({"retry-after": "Wed, 31 Dec 2025 23:59:59 GMT"}, None),
    ({"retry-after": "Thu, 01 Jan 9999 00:00:00 GMT"}, LONGEST_HINT),
    ({"retry-after": "Thu, 99 Jan 2026 00:00:07 GMT"}, None),
    ({"retry-after": ""}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), HINTS, ids=lambda value: str(value)[:50])
def test_hints(headers: dict[str, str], seconds: float | None) -> None:
    assert server_hint(headers, now=NOW) == seconds


@given(st.text(), st.text())
def test_any_hint(first: str, second: str) -> None:
    seconds = server_hint({"x-acs-retry-after": first, "retry-after": second}, now=NOW)
    assert seconds is None or 0 < seconds <= LONGEST_HINT


@given(st.text() | st.none())
def test_any_date(text: str | None) -> None:
    assert isinstance(parse_date(text), float | None)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_are_bounded(attempt: int, chance: float) -> None:
    wait = full_jitter(attempt, chance=lambda: chance)
    assert 0 <= wait <= min(LONGEST_WAIT, 0.2 * 2.0 ** min(attempt - 1, 16))


ERRORS: list[tuple[ControlError, bool]] = [
    (BadRequest("x"), False),
    (AuthError("x"), False),
    (BusinessError("x"), False),
    (Throttled("x"), True),
    (Transient("x"), True),
    (Transient("x", reason="server"), True),
    (Transient("x", reason="timeout"), True),
    (Transient("x", reason="connect"), True),
    (Transient("x", reason="dns"), True),
    (Transient("x", reason="proxy"), True),
    (Transient("x", reason="tls"), False),
    (Transient("x", reason="breaker"), False),
    (ProtocolError("x"), False),
    (ProtocolError("x", reason="malformed"), True),
]


@pytest.mark.parametrize(("error", "again"), ERRORS, ids=[f"{type(e).__name__}-{e.reason}" for e, _ in ERRORS])
def test_what_is_worth_repeating(error: ControlError, again: bool) -> None:
    assert worth_repeating(error) == again
    assert worth_repeating(error, attempt=2) == (again and error.reason != "dns")
