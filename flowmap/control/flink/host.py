"""The TaskManagers on this host, and the cgroups in which they make their sockets.

A TaskManager listens on the RPC and the data port that the JobManager lists, so its listening sockets show its cgroup.
The kernel names the cgroup of every socket, without privileges. A connection from a TaskManager's address whose socket
is in another cgroup is another program's, and one in a cgroup that holds nothing but the TaskManager is its own.

    both listeners are in one cgroup              the TaskManager makes its sockets there
    its processes are one tree                    the cgroup is its own; minimal inits of containers do not count
    they are several trees, or cannot be read     mixed: a socket there may be another program's
    another TaskManager listens in the same one   mixed

In a mixed cgroup, as after ``start-cluster.sh``, the process decides: the one that holds the listener, or a child of
it. Reading its descriptors needs CAP_SYS_PTRACE, which the daemon keeps with collect.sockets.processes: all. Where all
cgroups are of version 1, every socket is in cgroup 1.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from flowmap.control.flink.records import ListedTaskManager
from flowmap.errors import FlowmapError
from flowmap.model.address import Address, Endpoint
from flowmap.model.tenure import LocalProcess
from flowmap.system.cgroup_members import Member, descendants, trees

log = logging.getLogger(__name__)

CHILDREN = 4096
"""Processes of one TaskManager that are remembered, those not seen for longest dropped first."""
KEPT = 120.0
"""Seconds for which an ended process is remembered, to attribute its last connections. Its pid may be reused later."""
PROCESSES = 4096
"""TaskManagers that are remembered, those not seen for longest dropped first."""


class Listener(NamedTuple):
    """A listening TCP socket of this host."""

    endpoint: Endpoint
    """The address is unspecified where it listens on every address."""
    cgroup: int
    """Id of its cgroup; 0 if the kernel does not report it."""
    inode: int = 0


class Host(Protocol):
    """This host."""

    def listeners(self) -> Iterable[Listener]:
        """The listening sockets of the network namespace. FlowmapError if they cannot be read."""

    def members(self, cgroups: Collection[int]) -> Mapping[int, tuple[Member, ...]]:
        """The processes in each cgroup, without cgroups whose processes cannot be read."""

    def holder_of(self, group: tuple[Member, ...], inode: int) -> int | None:
        """The process among these that holds a socket; None if that is not known."""


class UnusedHost:
    """A host whose facts are not used."""

    def listeners(self) -> Iterable[Listener]:
        return ()

    def members(self, cgroups: Collection[int]) -> Mapping[int, tuple[Member, ...]]:
        return {}

    def holder_of(self, group: tuple[Member, ...], inode: int) -> int | None:
        return None


UNUSED = UnusedHost()


class HostFacts:
    """What this host knows about the TaskManagers of one cluster. Used in one event loop."""

    def __init__(self, cluster: str, host: Host, own_addresses: frozenset[Address]) -> None:
        self._cluster = cluster
        self._host = host
        self._own_addresses = own_addresses
        self._known: dict[str, LocalProcess] = {}
        self._checked: dict[int, float] = {}
        """By cgroup: when it last held nothing but one TaskManager."""
        self._seen: dict[str, dict[int, float]] = {}
        """By TaskManager: its processes, and when each was last seen, in that order."""
        self._holders: dict[str, tuple[int, int | None]] = {}
        """By TaskManager: inode of its RPC listener, and the process that holds it."""
        self._failed = False

    def of(self, processes: Collection[str]) -> tuple[LocalProcess, ...]:
        """Facts about these TaskManagers, as last read."""
        return tuple(one for name in sorted(processes) if (one := self._known.get(name)) is not None)

    def read(self, listed: Sequence[tuple[str, ListedTaskManager, tuple[Address, ...]]], now: float) -> None:
        """Look for the listed TaskManagers, given with their process and addresses, at monotonic second ``now``."""
        here = [one for one in listed if not self._own_addresses.isdisjoint(one[2])]
        if not here:
            return
        try:
            listening = {one.endpoint: one for one in self._host.listeners()}
        except FlowmapError as error:
            if not self._failed:
                log.warning(
                    "cluster %s: the sockets of its TaskManagers on this host are not identified: %s",
                    self._cluster,
                    error,
                )
            self._failed = True
            return
        self._failed = False
        found = {name: at for name, one, addresses in here if (at := _listener(listening, one, addresses)) is not None}
        count = Counter(at.cgroup for at in found.values())
        groups = self._host.members(count)
        for name, at in found.items():
            group = groups.get(at.cgroup, ())
            alone = count[at.cgroup] == 1 and len(trees(group)) == 1
            own = self._pids(name, at, group, alone=alone)
            pids = self._remembered(name, own, frozenset(one.pid for one in group) - own, now)
            self._note(name, at.cgroup, now, alone=alone, pids=pids)
        for cgroup in count:
            self._checked[cgroup] = now
        self._checked = {cgroup: at for cgroup, at in self._checked.items() if cgroup in count}

    def _pids(self, name: str, at: Listener, group: tuple[Member, ...], *, alone: bool) -> frozenset[int]:
        """The processes of a TaskManager: where it is alone those of its cgroup, else the listener's holder and its
        children. Descriptors are read once for each listener."""
        if alone:
            return frozenset(one.pid for one in group)
        inode, holder = self._holders.get(name, (0, None))
        if inode != at.inode or holder is None:
            holder = self._host.holder_of(group, at.inode)
            self._holders[name] = at.inode, holder
            while len(self._holders) > PROCESSES:
                del self._holders[next(iter(self._holders))]
        return frozenset() if holder is None else descendants(group, holder)

    def _remembered(self, name: str, own: frozenset[int], others: frozenset[int], now: float) -> frozenset[int]:
        """The processes of a TaskManager: those it has now, and those that ended a while ago whose pid no other
        process of the cgroup has."""
        seen = self._seen.setdefault(name, {})
        for pid in own:
            seen.pop(pid, None)
            seen[pid] = now
        for pid, at in list(seen.items()):
            if pid in others or now - at > KEPT or len(seen) > CHILDREN:
                del seen[pid]
        return frozenset(seen)

    def _note(self, name: str, cgroup: int, now: float, *, alone: bool, pids: frozenset[int]) -> None:
        known = self._known.pop(name, None)
        one = known if known is not None and known.cgroup == cgroup else LocalProcess(name, cgroup)
        one = one._replace(pids=pids)
        if not alone:
            before = self._checked.get(cgroup, -math.inf)
            one = one._replace(mixed_from=min(one.mixed_from, before), mixed_until=math.inf)
        elif one.mixed_until == math.inf:
            one = one._replace(mixed_until=now)
        self._known[name] = one
        while len(self._known) > PROCESSES:
            dropped = next(iter(self._known))
            del self._known[dropped]
            self._seen.pop(dropped, None)


def _listener(
    listening: Mapping[Endpoint, Listener], one: ListedTaskManager, addresses: Iterable[Address]
) -> Listener | None:
    """The RPC listener of a TaskManager, if both its listeners are in one cgroup; else None."""
    for address in addresses:
        anywhere = (address, *(Address.parse(text) for text in ("0.0.0.0", "::")))
        rpc, data = (
            [listening[at] for host in anywhere if (at := Endpoint(host, port)) in listening]
            for port in (one.rpc.port, one.data_port)
        )
        if len(rpc) == len(data) == 1 and rpc[0].cgroup == data[0].cgroup:
            return rpc[0] if rpc[0].cgroup else None
    return None
