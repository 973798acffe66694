"""How a stream keeps its connection: it has no end, so its deadline is for each piece."""

from __future__ import annotations

PROGRESS = "flowmap.progress"
"""Extension of the ASGI scope: a function that grants the client new time to read its answer."""
