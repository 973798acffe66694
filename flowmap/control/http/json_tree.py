"""Reads the JSON of a server so that one invalid value costs its element and not the whole answer. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic_core import from_json

UNREADABLE = "\ud800"
"""Replaces a number without a value. It is half of a surrogate pair, which no encoder accepts: an element that contains
it cannot become a model, so it is dropped and counted there."""

LONGEST_NUMBER = 100
"""Digits of a number; a longer one is unreadable."""


def read_tree(body: bytes) -> Any:
    """The value in ``body``, with or without a byte order mark; ValueError if its structure is not JSON.

    If the strict parser refuses the body, a tolerant one reads it again. It keeps strings with half of a surrogate
    pair, with bytes that are not UTF-8, or with control characters, and replaces NaN, infinite and endless numbers by
    :data:`UNREADABLE`.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return _read_tolerantly(body.decode(errors="surrogateescape"))


def _read_tolerantly(text: str) -> Any:
    try:
        return json.loads(
            text, strict=False, parse_constant=lambda _: UNREADABLE, parse_int=_whole, parse_float=_fraction
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_NUMBER else UNREADABLE


def _fraction(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else UNREADABLE
