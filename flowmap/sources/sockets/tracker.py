"""Sockets seen before: a connection keeps its role and id, and its counters never decrease."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.sources.sockets.payload import FIN_RECEIVED, in_states, received_payload, sent_payload
from flowmap.wire.netlink.inet_diag import Socket, SocketState
from flowmap.wire.netlink.inet_diag_columns import SOCKETS, Rows

FACTS = np.dtype(
    [
        ("role", np.int8),  # 1 client, -1 server, 0 undecided
        ("syn", np.bool_),  # the own SYN is among bytes_acked
        ("guessed", np.bool_),
        ("here", np.bool_),  # the remote address belongs to this namespace too
        ("fin", np.bool_),  # the peer's FIN is among bytes_received
        ("gone", np.bool_),  # destroyed, or forgotten
        ("pair", np.uint64),
        ("side", np.int8),
        # Values of the last report; no later report is lower.
        ("sent", np.uint64),
        ("received", np.uint64),
        ("out", np.uint64),
        ("in", np.uint64),
        ("read", np.uint64),  # number of the last full read with this socket
        ("workload", np.uint32),  # number of the workload that holds it; 0: not looked up
        ("process", np.bool_),  # whether its process was searched for
        ("peer", np.uint32),  # that of the other socket of a connection within this host; 0: not known
        ("peer_cgroup", np.uint64),  # cgroup of the other socket, where only that is known
    ]
)
Facts = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]

LINGERING_LIMIT = 65_536
TOMBSTONE_LIMIT = 65_536
_PROTOCOL_TCP = 6
_ENDING = (
    SocketState.FIN_WAIT1,
    SocketState.FIN_WAIT2,
    SocketState.CLOSING,
    SocketState.LAST_ACK,
    SocketState.TIME_WAIT,
    SocketState.CLOSE,
    # The peer has closed. Its process and its address may be gone long before this socket closes.
    SocketState.CLOSE_WAIT,
)
_OPENING = (SocketState.SYN_SENT, SocketState.SYN_RECV)
_LOW, _WRAP = np.uint64(0xFFFF_FFFF), np.uint64(1 << 32)


class Known(NamedTuple):
    """A socket with its facts."""

    socket: Socket
    facts: Facts  # a copy, one element


class SocketTracker:
    """The sockets of the last full read, sorted by cookie, and those that disappeared without a notification.

    A socket that was reset or is in TIME_WAIT leaves the kernel's table while its application still holds it. A dump
    can also miss a socket whose hash chain changes. Such a socket lingers: it is reported as ending, with its last
    counters, until its destroy notification arrives. Otherwise its bytes could count again for a flow that has ended.
    """

    def __init__(self) -> None:
        self.rows: Rows = np.zeros(0, SOCKETS)
        self.facts: Facts = np.zeros(0, FACTS)
        self._read = 0
        self._forgotten: dict[int, None] = {}

    def recall(self, rows: Rows) -> Facts:
        """The facts of these sockets; zeros for new or reconnected sockets."""
        at = self._find(rows["cookie"])
        facts = np.zeros(len(rows), FACTS)
        if len(self.rows) == 0:
            return facts
        same = np.ones(len(rows), bool)
        for name in ("cookie", "local_port", "remote_port", "remote_high", "remote_low"):
            same &= self.rows[name][at] == rows[name]
        facts[same] = self.facts[at[same]]
        return facts

    def adopt(self, rows: Rows, facts: Facts) -> None:
        """Store the sockets of a full read (sorted by cookie) with their roles, and update their counters."""
        self._read += 1
        count(rows, facts)
        facts["read"] = self._read
        left = ~np.isin(self.rows["cookie"], rows["cookie"]) & ~self.facts["gone"]
        if not left.any():
            self.rows, self.facts = rows, facts
            return
        joined = np.concatenate([rows, self.rows[left]])
        order = np.argsort(joined["cookie"], kind="stable")
        self.rows, self.facts = joined[order], np.concatenate([facts, self.facts[left]])[order]

    def lingering(self) -> FlowBatch:
        """Records of sockets missing in the last read without a notification; those beyond the limit are forgotten."""
        linger = (self.facts["read"] != self._read) & ~self.facts["gone"]
        excess = np.flatnonzero(linger)[LINGERING_LIMIT:]
        self._forget(excess)
        linger[excess] = False
        linger &= counts(self.facts)
        rows = self.rows[linger]
        rows["state"] = SocketState.CLOSE
        return flow_batch(rows, self.facts[linger], RecordKind.DUMPED)

    def drop_lingering(self) -> None:
        """Forget lingering sockets: after lost notifications it is unknown whether they exist."""
        self._forget(np.flatnonzero((self.facts["read"] != self._read) & ~self.facts["gone"]))

    def mark_destroyed(self, cookie: int) -> Known | None:
        """Mark a socket as destroyed; None if it is unknown."""
        if len(self.rows) == 0:
            return None
        at = int(self._find(np.array([cookie], np.uint64))[0])
        if self.rows["cookie"][at] != cookie or self.facts["gone"][at]:
            return None
        facts = self.facts[at : at + 1].copy()
        self.facts["gone"][at] = True
        return Known(Socket(*self.rows[at].tolist()), facts)

    def is_forgotten(self, cookie: int) -> bool:
        """Whether this socket was reported and then forgotten, so that its bytes have counted."""
        return cookie in self._forgotten

    def _forget(self, at: npt.NDArray[np.int64]) -> None:
        for cookie in self.rows["cookie"][at].tolist():
            self._forgotten[cookie] = None
        for cookie in list(self._forgotten)[: max(len(self._forgotten) - TOMBSTONE_LIMIT, 0)]:
            del self._forgotten[cookie]
        self.facts["gone"][at] = True

    def _find(self, cookies: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        at = np.searchsorted(self.rows["cookie"], cookies)
        return np.minimum(at, max(len(self.rows) - 1, 0)).astype(np.int64)


def count(rows: Rows, facts: Facts) -> None:
    """Update the counters in ``facts`` from ``rows``; none decreases, and 32-bit ones continue beyond 2³².

    The kernel reads the state before the counters, so an arriving FIN may count as one byte of payload. The next report
    does not add it again.
    """
    fin = in_states(rows, FIN_RECEIVED)
    known_fin = (rows["state"] == SocketState.CLOSE) & facts["fin"]
    received = received_payload(rows, fin | known_fin).astype(np.uint64)
    facts["sent"] = np.maximum(facts["sent"], sent_payload(rows, facts["syn"]).astype(np.uint64))
    facts["received"] = np.maximum(facts["received"], received)
    facts["fin"] |= fin
    for name, counter in (("out", "segments_out"), ("in", "segments_in")):
        value = (facts[name] & ~_LOW) | rows[counter]
        facts[name] = np.where(value < facts[name], value + _WRAP, value)


def set_peers(facts: Facts) -> None:
    """Set ``peer`` of the sockets of connections within this host, where both sockets are among these."""
    joint = np.flatnonzero(facts["here"] & (facts["side"] != 0))
    if not len(joint):
        return
    joint = joint[np.argsort(facts["pair"][joint], kind="stable")]
    pair = facts["pair"][joint]
    begins = np.flatnonzero(np.concatenate(([True], pair[1:] != pair[:-1], [True])))
    first = begins[:-1][np.diff(begins) == 2]
    one, other = joint[first], joint[first + 1]
    opposite = facts["side"][one] == -facts["side"][other]
    one, other = one[opposite], other[opposite]
    facts["peer"][one], facts["peer"][other] = facts["workload"][other], facts["workload"][one]


def closed_batch(closed: Iterable[Known], kind: RecordKind = RecordKind.CLOSED) -> FlowBatch:
    """Records of destroyed sockets; ``fin`` in their facts is decided."""
    items = list(closed)
    rows = np.array([tuple(item.socket) for item in items], SOCKETS)
    facts = np.concatenate([item.facts for item in items]) if items else np.zeros(0, FACTS)
    rows["state"] = SocketState.CLOSE
    count(rows, facts)
    return flow_batch(rows, facts, kind)


def counts(facts: Facts) -> Mask:
    """Which sockets count: for a connection within this host only the client socket."""
    return np.asarray(~facts["here"] | (facts["role"] > 0))


def flow_batch(rows: Rows, facts: Facts, kind: RecordKind) -> FlowBatch:
    """Records of sockets whose role and counters are known."""
    batch = FlowBatch(len(rows))
    ours = facts["role"] > 0
    for part in ("high", "low", "port"):
        local, remote = rows[f"local_{part}"], rows[f"remote_{part}"]
        client, server = np.where(ours, local, remote), np.where(ours, remote, local)
        for prefix in ("", "translated_"):
            getattr(batch, f"{prefix}client_{part}")[:] = client
            getattr(batch, f"{prefix}server_{part}")[:] = server
    for unit, sent, received in (("bytes", "sent", "received"), ("packets", "out", "in")):
        getattr(batch, f"transmit_{unit}")[:] = np.where(ours, facts[sent], facts[received])
        getattr(batch, f"receive_{unit}")[:] = np.where(ours, facts[received], facts[sent])
    batch.client_workload[:] = np.where(ours, facts["workload"], facts["peer"])
    batch.server_workload[:] = np.where(ours, facts["peer"], facts["workload"])
    batch.kind[:] = kind
    batch.protocol[:] = _PROTOCOL_TCP
    batch.id[:] = rows["cookie"]
    batch.retransmits[:] = rows["total_retransmits"]
    batch.round_trip[:] = rows["round_trip"]
    batch.flags[:] = (
        int(Flag.COUNTERS | Flag.HEALTH | Flag.REPLIED)
        + ~in_states(rows, _OPENING) * int(Flag.ASSURED)
        + in_states(rows, _ENDING) * int(Flag.ENDING)
        + facts["guessed"] * int(Flag.GUESSED)
        + ours * int(Flag.PRESENT)
    )
    return batch
