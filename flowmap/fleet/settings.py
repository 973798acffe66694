"""What a member of a fleet needs of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings:
    """Settings of a member. All of them but ``host`` can change at run time, by a reload."""

    host: str
    """The name of this member in the fleet: see ``naming.py``."""
    trust: Literal["own", "all"]
    size: int
    keys: tuple[bytes, ...]
    """Keys of the fleet for signatures; none with trust ``own``."""
    rate: float
    burst: int
    max_in_flight: int
    lease: float
    """Seconds after which the call of a host that does not report counts as lost."""
    recheck: float
    grace: float
