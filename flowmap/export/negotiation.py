"""Content negotiation of the page by ``Accept`` and ``Accept-Encoding`` (RFC 9110, section 12.5).

Elements that cannot be read are skipped; the rest decides.
"""

# prometheus-client has choose_encoder and gzip_accepted (seen in 0.26), which do not serve here:
# - they ignore q-values, so "gzip;q=0" and "application/openmetrics-text;q=0" get what they refuse;
# - choose_encoder raises TypeError for a version that is not a number, and echoes any version it is given;
# - it compares media types by case, and "*" or "x-gzip" never give gzip;
# - it returns an encoder of a registry, while the page is mostly built by ``export.exposition``.

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum


class Format(Enum):
    """Formats of the page; the value is the content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_LONGEST_HEADER = 4096
_VERSIONS = {Format.TEXT: ("", "0.0.4"), Format.OPENMETRICS: ("", "1.0.0")}
_RANGES = {
    "application/openmetrics-text": Format.OPENMETRICS,
    "text/plain": Format.TEXT,
    "text/*": Format.TEXT,
    "*/*": Format.TEXT,
}


def choose_format(accept: str | None) -> Format:
    """The format with the highest weight; text if none is known, the first one named if weights are equal."""
    best, best_weight = Format.TEXT, 0.0
    for name, parameters in _parts(accept):
        form = _RANGES.get(name)
        if form is None or parameters.get("version", "") not in _VERSIONS[form]:
            continue
        weight = _weight(parameters)
        if weight > best_weight:
            best, best_weight = form, weight
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether the client accepts gzip."""
    weights = {name: _weight(parameters) for name, parameters in _parts(accept_encoding)}
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _parts(header: str | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Each element of a header in lower case, with its parameters."""
    for part in (header or "")[:_LONGEST_HEADER].lower().split(","):
        name, *rest = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in rest)
        yield name, {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _weight(parameters: dict[str, str]) -> float:
    """``q``: 1 if absent, 0 (refused) if it is not a number from 0 to 1."""
    try:
        weight = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
