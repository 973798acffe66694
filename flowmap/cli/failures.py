"""Errors as lines for the user."""

from __future__ import annotations

import sys

from flowmap import errors


def describe(error: Exception) -> list[str]:
    """A line for each problem in ``error``."""
    if isinstance(error, errors.FlowmapError):
        remedy = getattr(error, "remedy", "")
        return [f"{line}; {remedy}" if remedy else line for line in str(error).splitlines()]
    if isinstance(error, UnicodeEncodeError) and _of_locale(error):
        part = error.object[error.start : error.end]
        return [f"{part}: not text in the encoding of this locale; use a UTF-8 locale, like LC_ALL=C.UTF-8"]
    if isinstance(error, OSError) and error.strerror:
        return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
    return [errors.describe_defect(error)]


def _of_locale(error: UnicodeEncodeError) -> bool:
    """Whether an argument is not text, or a file name cannot be encoded."""
    part = error.object[error.start : error.end]
    return (
        any("\udc80" <= char <= "\udcff" for char in part) or error.encoding == sys.getfilesystemencoding() != "utf-8"
    )
