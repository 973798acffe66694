"""Client or server: the role of each socket of a connection. Pure policy.

Evidence, best first: the counters (``payload.opened``), a listening socket on one endpoint, and, as a guess, the range
of ephemeral ports. The two sockets of a connection within this host are decided together, so exactly one of them is the
client. Only the client socket counts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows.filter import are_v4
from flowmap.model.address import V4_MAPPED, Address
from flowmap.sources.port_roles import likelier_client
from flowmap.wire.netlink.inet_diag_columns import Rows

Unsigned = npt.NDArray[np.uint64]
Roles = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

LISTENER_LIMIT = 16_384
LISTENER_LIFE = 600.0
"""Seconds an endpoint counts as listening after its listener was last seen: accepted sockets outlive listeners."""

_VOTE_REMEMBERED, _VOTE_PROOF, _VOTE_LISTENER = 1 << 20, 1 << 10, 1
_LOOPBACK = Address.parse("::1")
_V4_NET = np.uint64((V4_MAPPED >> 24) | 127)


def mix(high: Unsigned, low: Unsigned, port: Unsigned, seed: int) -> Unsigned:
    """A 64-bit hash of an endpoint (splitmix64 of its parts); ``seed`` prevents chosen collisions."""
    mixed = _scramble(low ^ np.uint64(seed))
    mixed = _scramble(mixed ^ high)
    return _scramble(mixed ^ port)


def _scramble(x: Unsigned) -> Unsigned:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Listeners:
    """Endpoints with a listener, now or recently."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int, int], tuple[bool, float]] = {}
        self._exact = np.zeros(0, np.uint64)
        self._any_v4 = self._any_v6 = np.zeros(0, np.uint32)  # ports; few, and there is a list of each namespace

    def update(self, rows: Rows, *, now: float) -> None:
        """Add the listening sockets of one read; remove those unseen for LISTENER_LIFE, and those beyond the limit."""
        fields = ["local_high", "local_low", "local_port", "v6only"]
        for high, low, port, v6only in rows[fields].tolist():
            self._seen.pop((high, low, port), None)  # reinserted last: the order is by time seen
            self._seen[high, low, port] = (bool(v6only), now)
        overdue = [endpoint for endpoint, (_, seen) in self._seen.items() if now - seen > LISTENER_LIFE]
        excess = len(self._seen) - len(overdue) - LISTENER_LIMIT
        for endpoint in overdue:
            del self._seen[endpoint]
        for endpoint in list(self._seen)[: max(excess, 0)]:
            del self._seen[endpoint]
        self._index()

    def _index(self) -> None:
        endpoints = np.array(list(self._seen), np.uint64).reshape(-1, 3)
        self._exact = mix(endpoints[:, 0], endpoints[:, 1], endpoints[:, 2], 0)
        v4, v6 = set[int](), set[int]()
        for (high, low, port), (v6only, _) in self._seen.items():
            if high == 0 and low == V4_MAPPED:
                v4.add(port)
            elif high == low == 0:
                v6.add(port)
                v4.update(() if v6only else (port,))
        self._any_v4, self._any_v6 = (np.fromiter(ports, np.uint32, len(ports)) for ports in (v4, v6))

    def holds(self, high: Unsigned, low: Unsigned, port: Unsigned) -> Mask:
        """Which of these endpoints have a listener, on their own address or on a wildcard of their family."""
        wild_v4, wild_v6 = (np.isin(port, ports, kind="table") for ports in (self._any_v4, self._any_v6))
        wild = np.where(are_v4(high, low), wild_v4, wild_v6)
        return np.asarray(wild | np.isin(mix(high, low, port, 0), self._exact))


class LocalAddresses:
    """The addresses of this network namespace."""

    def __init__(self, addresses: set[Address] | None = None) -> None:
        self._known = _address_keys(addresses or set())

    def holds(self, high: Unsigned, low: Unsigned) -> Mask:
        """Which of these addresses are local: 127.0.0.0/8, ::1 and the given ones."""
        loopback = (high == 0) & ((low >> np.uint64(24) == _V4_NET) | (low == _LOOPBACK.low))
        return np.asarray(loopback | np.isin(mix(high, low, np.zeros_like(low), 0), self._known))


def _address_keys(addresses: set[Address]) -> Unsigned:
    parts = np.array(sorted(addresses), np.uint64).reshape(-1, 2)
    return mix(parts[:, 0], parts[:, 1], np.zeros(len(parts), np.uint64), 0)


def pair_keys(rows: Rows, seed: int) -> tuple[Unsigned, npt.NDArray[np.int8]]:
    """A number for each connection, equal for its two sockets, and the side: 1 or -1, opposite for the two.

    The side is 0 for a socket that is connected to itself.
    """
    local = mix(rows["local_high"], rows["local_low"], rows["local_port"], seed)
    remote = mix(rows["remote_high"], rows["remote_low"], rows["remote_port"], seed)
    side = (local < remote).astype(np.int8) - (local > remote).astype(np.int8)
    return local + remote, side


def guess(rows: Rows, ephemeral: tuple[int, int]) -> Roles:
    """1 (client) or -1 (server) from the ports alone: the likelier client's port (see ``port_roles``), else the higher.

    0 for equal ports. The two sockets of a connection get opposite signs.
    """
    local, remote = rows["local_port"], rows["remote_port"]
    by_role = likelier_client(local, remote, ephemeral)
    higher = (local > remote).astype(np.int8) - (local < remote).astype(np.int8)
    return np.where(by_role != 0, by_role, higher)


def decide(
    proof: Roles, remembered: Roles, listened: Roles, guessed: Roles, pair: Unsigned, side: Roles, both_here: Mask
) -> tuple[Roles, Mask]:
    """The role of every socket, and which are guesses.

    The inputs are 1 (client), -1 (server) or 0 (unknown) for each kind of evidence. Sockets with ``both_here`` and the
    same ``pair`` are decided together and get opposite roles; a self-connection (``side`` 0) is its own client.
    """
    votes = (
        remembered * np.int64(_VOTE_REMEMBERED) + proof * np.int64(_VOTE_PROOF) + listened * np.int64(_VOTE_LISTENER)
    )
    joint = both_here & (side != 0)
    if joint.any():
        _, group = np.unique(pair[joint], return_inverse=True)
        total = np.bincount(group, weights=(votes[joint] * side[joint]).astype(np.float64))
        votes[joint] = total[group].astype(np.int64) * side[joint]
    unknown = votes == 0
    fallback = np.where(guessed != 0, guessed, np.where(joint, side, 1))
    roles = np.where(unknown, fallback, np.sign(votes)).astype(np.int8)
    roles[side == 0] = 1
    return roles, unknown & (side != 0)
