"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Target(NamedTuple):
    """Code that is given any bytes."""

    meaning: str
    run: Callable[[bytes], None]
    """Whatever it raises is a finding."""
    seeds: Callable[[], Iterable[bytes]]
    """Inputs to start from."""
