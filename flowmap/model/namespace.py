"""Network namespaces: each has its own addresses, sockets and connection tracking table."""

from __future__ import annotations

from typing import NamedTuple

OWN = 0
"""The number of the daemon's own network namespace. A source numbers the others from 1 on, and never uses a number
again."""
HOST = "host"
"""Name of the daemon's own network namespace."""


class NetworkNamespace(NamedTuple):
    """One network namespace besides the daemon's own."""

    inode: int
    """Inode of its file in nsfs, as ``readlink /proc/PID/ns/net`` shows it. The kernel may use it again for another
    namespace when this one is gone."""
    name: str | None = None
    """Name below ``/run/netns``, if it has one."""

    def __str__(self) -> str:
        return self.name or f"net:[{self.inode}]"

    def is_called(self, text: str) -> bool:
        """Whether ``text`` is its name, its inode, or both as the kernel shows them."""
        return text in (self.name, str(self.inode), f"net:[{self.inode}]")
