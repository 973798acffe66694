"""Makes label values safe for the page: one rule for every external value.

A name from the control plane may hold any character of a JSON string. One bad value makes Prometheus drop the whole
scrape, so every value goes through :func:`clean` and :func:`escape`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

LONGEST = 128
"""Largest length of a label value before escaping. Prometheus can limit it, too (label_value_length_limit)."""

_REPLACEMENT = "\ufffd"
_DIGEST_BYTES = 8
_TAIL_LENGTH = 1 + 2 * _DIGEST_BYTES

# C0 except newline (which has an escape), DEL, C1, lone surrogates (not valid in UTF-8), line and paragraph separators
# (some parsers split there), and direction controls, which can make one name look like another.
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LOOKS_TAILED = re.compile(rf"~[0-9a-f]{{{2 * _DIGEST_BYTES}}}\Z")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def clean(value: str) -> str:
    """``value`` with unsafe characters replaced, at most :data:`LONGEST` long; not yet escaped.

    A changed value gets the suffix ``~`` and 16 hex digits of a hash of the original, so different values stay
    different. A safe value that already has such a suffix gets another one, so it differs from every changed value.
    """
    if len(value) <= LONGEST and not _UNSAFE.search(value) and not _LOOKS_TAILED.search(value):
        return value
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{without_controls(value)[: LONGEST - _TAIL_LENGTH]}~{digest}"


def without_controls(value: str) -> str:
    """``value`` with unsafe characters replaced, at any length. Different values may become equal."""
    return _UNSAFE.sub(_REPLACEMENT, value)


def escape(value: str) -> str:
    """``value`` with backslash, quote and newline escaped, as both formats require in a label value."""
    return value.translate(_ESCAPES)


@lru_cache(maxsize=16384)
def quoted(value: str) -> str:
    """``value`` cleaned, escaped and in quotes."""
    return f'"{escape(clean(value))}"'


def joined(values: Iterable[str]) -> str:
    """Several values as one, separated by commas; a comma or backslash inside a value is escaped by a backslash.

    Each value is cleaned separately, so a set of ids is not cut in the middle.
    """
    return ",".join(clean(value).replace("\\", "\\\\").replace(",", "\\,") for value in values)


def quoted_list(values: Iterable[str]) -> str:
    """:func:`joined`, escaped and in quotes."""
    return f'"{escape(joined(values))}"'


def label_text(pairs: Iterable[tuple[str, str]]) -> str:
    """``{a="1",b="2"} ``: the part of a line between metric name and value, with its space. Values are quoted."""
    inside = ",".join(f"{name}={value}" for name, value in pairs)
    return f"{{{inside}}} " if inside else " "


def label_name(key: str) -> str:
    """``key`` as a label name in lower snake case; other characters than letters, digits and ``_`` become ``_``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"[^a-z0-9_]", "_", words.lower())


def label_names(keys: Iterable[str], *, prefix: str) -> dict[str, str]:
    """``prefix`` + :func:`label_name` for each key; equal names get ``_2``, ``_3``, … in the order of the keys."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for key in sorted(set(keys)):
        name = wanted = prefix + label_name(key)
        count = 1
        while name in taken:
            count += 1
            name = f"{wanted}_{count}"
        taken.add(name)
        names[key] = name
    return names
