"""Who had an address when, as repeated readings of a control plane show it. All values are immutable.

A reading starts at one instant and arrives at a later one; what it shows was true at an unknown moment between. So a
tenure has bounds in which the owner may have had the address, and narrower ones in which it is confirmed. All instants
are monotonic seconds of this host.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flowmap.model.deployment import Owner


class Tenure(NamedTuple):
    """The time in which one owner has one address, by one process."""

    owner: Owner
    absent_at: float
    """Start of the last reading before that does not show the owner; -inf if every reading shows it."""
    seen_from: float
    """Arrival of the first reading that shows the owner."""
    seen_until: float
    """Latest instant at which the owner is confirmed: the start of the last reading that shows it, but not later than
    the last sign of life of the process at the address."""
    gone_at: float = math.inf
    """Arrival of the first reading after that does not show the owner; infinite while it is shown."""
    begun_at: float = -math.inf
    """Start of the owner's oldest job there: none of its connections is older."""
    ended_at: float = math.inf
    """End of the owner's last job there: none of its connections is younger."""
    process: str = ""
    """The TaskManager that runs the owner's jobs there, or is the owner itself; empty if no process matters."""


class LocalProcess(NamedTuple):
    """A TaskManager on this host, and the cgroup in which it makes its sockets."""

    process: str
    """As in :attr:`Tenure.process`."""
    cgroup: int
    """Id of the cgroup: the inode of its directory. The kernel uses none twice."""
    mixed_from: float = math.inf
    """From here to ``mixed_until`` the cgroup held, or may have held, other programs than the TaskManager, too."""
    mixed_until: float = -math.inf
    pids: frozenset[int] = frozenset()
    """Its processes in this pid namespace, its children included; empty if they are not known."""

    def is_alone(self, born_after: float, born_by: float) -> bool:
        """Whether the cgroup held nothing but the TaskManager when a connection began, in this interval."""
        return born_by <= self.mixed_from or born_after > self.mixed_until


class Holders(NamedTuple):
    """The owners of one address, from the first reading on."""

    tenures: tuple[Tenure, ...]
    known_from: float
    """Arrival of the first reading. Who had the address before is not known."""
    known_until: float
    """Start of the last reading that shows the owners of the address; -inf without one."""
    local: tuple[LocalProcess, ...] = ()
    """The TaskManagers of the address that run on this host, as far as their cgroups are known."""
