"""Label values made safe for the page: one rule for every value that comes from outside.

A name from the control plane may hold anything a JSON string can. One bad value would make a server drop the whole
scrape, so nothing reaches the page except through :func:`clean` and :func:`escape`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

LONGEST = 128
"""Characters of a label value, before escaping. Servers can be told to refuse a scrape with longer values."""

_REPLACEMENT = "\ufffd"
_DIGEST_BYTES = 8
_TAIL_LENGTH = 1 + 2 * _DIGEST_BYTES

# C0 but for newline (which has an escape), DEL, C1, lone surrogates (no UTF-8 form), line and paragraph separators
# (some parsers split there), and the direction controls that let one name be drawn as another.
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LOOKS_TAILED = re.compile(rf"~[0-9a-f]{{{2 * _DIGEST_BYTES}}}\Z")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def clean(value: str) -> str:
    """``value`` with unsafe characters replaced, at most :data:`LONGEST` long; not yet escaped.

    A value that had to be changed ends in ``~`` and 16 digits of a hash of the original, so two values that differ
    stay different. A harmless value that already looks so is given a tail too: nothing can pose as another's.
    """
    if len(value) <= LONGEST and not _UNSAFE.search(value) and not _LOOKS_TAILED.search(value):
        return value
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{without_controls(value)[: LONGEST - _TAIL_LENGTH]}~{digest}"


def without_controls(value: str) -> str:
    """``value`` with unsafe characters replaced, whatever its length: for texts that need not stay apart."""
    return _UNSAFE.sub(_REPLACEMENT, value)


def escape(value: str) -> str:
    """Backslash, quote and newline escaped, as both formats ask for inside a label value."""
    return value.translate(_ESCAPES)


@lru_cache(maxsize=16384)
def quoted(value: str) -> str:
    """``value`` cleaned, escaped and in quotes."""
    return f'"{escape(clean(value))}"'


def joined(values: Iterable[str]) -> str:
    """Several values as one, separated by commas; a comma or backslash inside a value is escaped by a backslash.

    Each part is cleaned on its own, so that a set of ids is not cut in the middle.
    """
    return ",".join(clean(value).replace("\\", "\\\\").replace(",", "\\,") for value in values)


def quoted_list(values: Iterable[str]) -> str:
    """:func:`joined`, escaped and in quotes."""
    return f'"{escape(joined(values))}"'


def label_text(pairs: Iterable[tuple[str, str]]) -> str:
    """``{a="1",b="2"} ``: the part of a line between metric name and value. Values are quoted already.

    The trailing space belongs to it, so that a line is this and the number.
    """
    inside = ",".join(f"{name}={value}" for name, value in pairs)
    return f"{{{inside}}} " if inside else " "


def label_name(key: str) -> str:
    """``key`` as a label name: lower snake case, anything else than letters, digits and ``_`` becomes ``_``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"[^a-z0-9_]", "_", words.lower())


def label_names(keys: Iterable[str], *, prefix: str) -> dict[str, str]:
    """``prefix`` + :func:`label_name` for each key; names that would be equal get ``_2``, ``_3``, … in order of key."""
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
