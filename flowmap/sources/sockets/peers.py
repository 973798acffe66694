"""Destroyed sockets whose peer socket may be in another network namespace that is read.

The sources of one host share a :class:`Peers`. Each offers its destroyed sockets; the second of a connection finds the
first, and both learn what the other one sent. That decides whether the peer's FIN is among the received bytes. Two
sockets belong to one connection only by the rule of ``flows/sightings``: each address is one of exactly one namespace
that is read, or the client called an address of none (a service). Equal tuples in isolated networks are never joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from flowmap.model.address import Address
from flowmap.wire.netlink.inet_diag import SENT_COUNTED, Socket

LIMIT = 65_536
"""Destroyed sockets without a peer socket that are kept; the oldest is dropped."""
KEPT = 60.0
"""Seconds for which they are kept. It is the length of TIME_WAIT, in which a tuple is rarely used again."""

_NOWHERE, _SEVERAL = -1, -2

End = tuple[int, int, int]
"""Address and port."""


class _Key(NamedTuple):
    """A socket by its connection and its role."""

    client: End
    server: End
    is_client: bool


@dataclass(slots=True, eq=False)
class Destroyed:
    """The final counters of a socket."""

    key: _Key
    received: int
    """Bytes, which may include the peer's FIN."""
    sent: int
    """Bytes of payload, without repetitions."""
    at: float
    may_be_met: bool
    """Whether the remote address is one of another namespace that is read."""
    fin: bool | None = None
    """Whether ``received`` counts the FIN; None as long as the peer socket is not found."""


class Peers:
    """Finds the peer sockets of destroyed sockets in other namespaces of one host. For one thread."""

    def __init__(self) -> None:
        self._last = 0
        self._addresses: dict[int, frozenset[Address]] = {}
        self._holders: dict[tuple[int, int], set[int]] = {}
        self._alone: dict[_Key, Destroyed] = {}  # without a peer socket so far, the oldest first
        self._by_client: dict[tuple[End, bool], _Key] = {}  # the latest in _alone
        self.drained_at = float("-inf")
        """All notifications from before this time were read, in every namespace."""
        self.unsure = 0
        """Closed connections of all namespaces whose received bytes may be off by one."""
        self.dropped = 0
        """Destroyed sockets that were dropped at the limit."""

    def join(self) -> int:
        """A number for the source of one more namespace."""
        self._last += 1
        return self._last

    def leave(self, number: int) -> None:
        """A namespace is not read any more."""
        self.set_addresses(number, frozenset())

    def set_addresses(self, number: int, addresses: frozenset[Address]) -> None:
        """Set the addresses of a namespace."""
        before = self._addresses.pop(number, frozenset())
        for address in before - addresses:
            self._holders[address].discard(number)
            if not self._holders[address]:
                del self._holders[address]
        for address in addresses - before:
            self._holders.setdefault(address, set()).add(number)
        if addresses:
            self._addresses[number] = addresses

    def forget(self) -> None:
        """Notifications were lost: a tuple may have been used again without notice."""
        self._alone.clear()
        self._by_client.clear()

    def offer(self, number: int, socket: Socket, *, is_client: bool, now: float) -> Destroyed | None:
        """Look for the peer socket of a destroyed one; without it, keep this one. None if no peer socket can be found.

        ``number``: of the source.
        """
        if len(self._addresses) < 2 or socket.info_size < SENT_COUNTED:
            return None
        if self._holder(socket.local_high, socket.local_low) != number:
            return None
        holder = self._holder(socket.remote_high, socket.remote_low)
        if holder in (number, _SEVERAL) or (holder == _NOWHERE and not is_client):
            return None
        local = socket.local_high, socket.local_low, socket.local_port
        remote = socket.remote_high, socket.remote_low, socket.remote_port
        key = _Key(local, remote, True) if is_client else _Key(remote, local, False)
        sent = socket.bytes_sent - socket.bytes_retransmitted
        new = Destroyed(key, socket.bytes_received, sent, now, holder != _NOWHERE)
        peer = self._peer(new)
        if peer is not None and _decide(new, peer):
            self.give_up(peer)
        else:
            self._keep(new)
        return new

    def give_up(self, socket: Destroyed) -> None:
        """Do not keep a socket any more."""
        if self._alone.get(socket.key) is socket:
            del self._alone[socket.key]
            client = socket.key.client, socket.key.is_client
            if self._by_client.get(client) == socket.key:
                del self._by_client[client]

    def _holder(self, high: int, low: int) -> int:
        holders = self._holders.get((high, low))
        if holders is None:
            return _NOWHERE
        return next(iter(holders)) if len(holders) == 1 else _SEVERAL

    def _peer(self, new: Destroyed) -> Destroyed | None:
        key = new.key._replace(is_client=not new.key.is_client)
        if (peer := self._alone.get(key)) is not None:
            return peer
        other = self._by_client.get((key.client, key.is_client))
        peer = None if other is None else self._alone[other]
        # The address that the client called is translated on the way to the server.
        return peer if peer is not None and not (new if new.key.is_client else peer).may_be_met else None

    def _keep(self, new: Destroyed) -> None:
        if (before := self._alone.get(new.key)) is not None:
            self.give_up(before)
        self._alone[new.key] = new
        self._by_client[new.key.client, new.key.is_client] = new.key
        while (oldest := next(iter(self._alone.values()))).at < new.at - KEPT:
            self.give_up(oldest)
        if len(self._alone) > LIMIT:
            self.give_up(oldest)
            self.dropped += 1


def _decide(one: Destroyed, other: Destroyed) -> bool:
    """Set ``fin`` of both if their counters are those of one connection; returns whether they are.

    No side receives more than the other one sent and its FIN. At least one side received all that the other one sent,
    and through a service both did: otherwise nothing shows that they belong together.
    """
    beyond = one.received - other.sent, other.received - one.sent
    most, least = max(beyond), min(beyond)
    if most > 1 or most < 0 or (least < 0 and one.key.server != other.key.server):
        return False
    one.fin, other.fin = (number == 1 for number in beyond)
    return True
