"""Makes text from a server safe to print."""

from __future__ import annotations

TEXT_LIMIT = 300
"""Characters of a message of the API that are kept in an error."""


def plain_text(value: object) -> str | None:
    """``value`` if it is a non-empty text; the documents' examples write "none" as two quote characters.

    Control characters become blanks and the length is capped: this text is logged.
    """
    if not isinstance(value, str) or value.strip() in ("", '""'):
        return None
    return "".join(char if char.isprintable() else " " for char in value[:TEXT_LIMIT]).strip()
