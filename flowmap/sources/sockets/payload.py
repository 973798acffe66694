"""Payload bytes from TCP counters: the kernel counts sequence numbers, which include SYN and FIN.

Measured on 6.18, each with known payloads and every order of closing (tests/kernel/test_sockets.py repeats it):

- ``bytes_acked`` counts the SYN of the side that opened the connection, not that of the side that accepted it (its
  child starts after the SYN-ACK), with Fast Open too. It counts the FIN once that is acknowledged.
- ``bytes_received`` never counts a SYN. It counts the FIN as soon as that is received in order: in CLOSE_WAIT, LAST_ACK
  and CLOSING always, in ESTABLISHED and FIN_WAIT* never, in a destroyed socket (always CLOSE) it depends.
- ``bytes_sent - bytes_retransmitted`` is payload alone, so it caps the acknowledged payload: the FIN needs no guess.
- ``unique + fin`` bytes were sent, of which ``send_queue - not_sent`` are not acknowledged yet. So
  ``bytes_acked + send_queue - not_sent - unique`` is ``opened + fin sent``, which shows who opened the connection.
- A socket whose application aborts (SO_LINGER 0, or connect to AF_UNSPEC) is emptied first: its notification has
  remote port 0 and all counters 0; only ``send_queue`` is then more than 0, which a socket never connected has not.
- Only acknowledged payload is reported; data that was never acknowledged does not count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.wire.netlink.inet_diag import SENT_COUNTED, SocketState
from flowmap.wire.netlink.inet_diag_columns import Rows

Signed = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

OPEN_STATES = (SocketState.ESTABLISHED, SocketState.CLOSE_WAIT)
FIN_RECEIVED = (SocketState.CLOSE_WAIT, SocketState.LAST_ACK, SocketState.CLOSING)
SKIPPED = (SocketState.SYN_SENT, SocketState.SYN_RECV, SocketState.TIME_WAIT, SocketState.LISTEN)
"""States without an open connection: SYN_SENT has moved nothing; SYN_RECV and TIME_WAIT have no counters."""

_SHIFT = 16


def states_mask(states: tuple[SocketState, ...]) -> int:
    """The bit mask of states in a sock_diag request."""
    return sum(1 << state for state in states)


CONNECTED = states_mask(tuple(state for state in SocketState if state not in SKIPPED))


def in_states(rows: Rows, states: tuple[SocketState, ...]) -> Mask:
    """Which rows are in one of ``states``."""
    bits = np.uint64(states_mask(states))
    return np.asarray((bits >> np.minimum(rows["state"], _SHIFT)) & np.uint64(1) == 1)


def opened(rows: Rows) -> npt.NDArray[np.int8]:
    """1 if the counters prove that this side opened the connection, -1 if it accepted it, 0 if unknown.

    An open socket is decided only while nothing is in flight, as the kernel reads queues and counters at different
    instants. A destroyed socket always is. 0 before Linux 4.19.
    """
    unique = _unique(rows)
    beyond = rows["bytes_acked"].astype(np.int64) - unique
    in_flight = rows["send_queue"].astype(np.int64) - rows["not_sent"].astype(np.int64)
    closed = rows["state"] == SocketState.CLOSE
    beyond = np.where(closed, beyond + in_flight, beyond)
    quiet = (rows["unacked"] == 0) & (rows["info_size"] >= SENT_COUNTED)
    fin_acked = rows["state"] == SocketState.FIN_WAIT2
    live = quiet & (in_states(rows, OPEN_STATES) | fin_acked)
    excess = np.where(fin_acked, beyond - 1, beyond)
    # Destroyed: 0 is neither SYN nor FIN, 2 is both; 1 may be either.
    destroyed = (rows["info_size"] >= SENT_COUNTED) & closed
    active = (live & (excess == 1)) | (destroyed & (beyond == 2))
    passive = (live & (excess == 0)) | (destroyed & (beyond == 0))
    return np.asarray(active.astype(np.int8) - passive.astype(np.int8))


def sent_payload(rows: Rows, syn: npt.NDArray[np.bool_]) -> Signed:
    """Payload bytes acknowledged by the peer; ``syn`` where the own SYN is among ``bytes_acked``.

    Before Linux 4.19 the state decides about the FIN; a destroyed socket with an empty queue counts as having sent one.
    """
    acked = np.maximum(rows["bytes_acked"].astype(np.int64) - syn, 0)
    fin = (rows["state"] == SocketState.FIN_WAIT2) | ((rows["state"] == SocketState.CLOSE) & (rows["send_queue"] == 0))
    capped = np.minimum(acked, _unique(rows))
    return np.where(rows["info_size"] >= SENT_COUNTED, capped, np.maximum(acked - fin, 0))


def received_payload(rows: Rows, fin: Mask) -> Signed:
    """Payload bytes received in order; ``fin`` where the FIN is among ``bytes_received``."""
    return np.maximum(rows["bytes_received"].astype(np.int64) - fin, 0)


def _unique(rows: Rows) -> Signed:
    return np.asarray(rows["bytes_sent"].astype(np.int64) - rows["bytes_retransmitted"].astype(np.int64))
