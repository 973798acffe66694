"""Decides whether and when a failed call is repeated. Pure: chance and time are arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from flowmap.errors import ControlError, ProtocolError, Throttled, Transient

FIRST_WAIT = 0.2
"""Upper end of the first random wait, in seconds; it doubles with each attempt."""

LONGEST_WAIT = 10.0

THROTTLE_WAIT = 1.0
"""Upper end of the first random wait after throttling without a hint from the server."""

LONGEST_HINT = 120.0
"""Most seconds of a server's hint that are followed, as in the vendor's SDK."""

_NOT_REPEATED = {"breaker", "tls"}

_REPEATED_ONCE = {"dns"}
"""The second attempt joins the look-up of the first, which lasts until all name servers were tried."""


def full_jitter(attempt: int, *, chance: Callable[[], float], first: float = FIRST_WAIT) -> float:
    """Seconds before attempt ``attempt + 1``: uniform between 0 and an exponentially growing bound."""
    return chance() * min(LONGEST_WAIT, first * 2.0 ** min(attempt - 1, 16))


def worth_repeating(error: ControlError, *, attempt: int = 1) -> bool:
    """Whether a repeated call may succeed soon. All operations are safe to repeat.

    ``attempt`` is the number of the failed attempt, from 1.
    """
    if error.reason in _REPEATED_ONCE and attempt > 1:
        return False
    if isinstance(error, Throttled):
        return True
    if isinstance(error, ProtocolError):
        return error.reason == "malformed"
    return isinstance(error, Transient) and error.reason not in _NOT_REPEATED


def server_hint(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait by ``x-acs-retry-after`` (milliseconds), else by ``Retry-After``; None without both.

    ``now`` is the time of the answer in epoch seconds, for a ``Retry-After`` that is a date. A hint that is not a
    positive number or a future date is ignored; a long one is capped.
    """
    milliseconds = positive(headers.get("x-acs-retry-after"))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST_HINT)
    value = headers.get("retry-after")
    seconds = positive(value)
    if seconds is None and value is not None:
        date = parse_date(value)
        seconds = None if date is None or date <= now else date - now
    return None if seconds is None else min(seconds, LONGEST_HINT)


def parse_date(value: str | None) -> float | None:
    """An HTTP date (RFC 9110, section 5.6.7) in epoch seconds; None if it is not one."""
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def positive(value: str | None) -> float | None:
    """A header's value if it is a positive whole number."""
    text = (value or "").strip()
    if not text.isascii() or not text.isdecimal():
        return None
    # A number too long for a float is the longest hint.
    number = float(text) if len(text) < 300 else math.inf
    return number if number > 0 else None
