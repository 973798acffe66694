"""From TCP's counters to payload bytes: the kernel counts sequence numbers, so SYN and FIN are in them.

Measured on 6.18, each with known payloads and every order of closing (tests/kernel/test_sockets.py repeats it):

- ``bytes_acked`` counts the SYN of the end that opened the connection and not that of the end that accepted it (its
  child starts behind the SYN-ACK), with Fast Open too. It counts the FIN once that is acknowledged.
- ``bytes_received`` never counts a SYN. It counts the FIN as soon as that is received in order: in CLOSE_WAIT, LAST_ACK
  and CLOSING always, in ESTABLISHED and FIN_WAIT* never, in a destroyed socket (always CLOSE) it depends.
- ``bytes_sent - bytes_retransmitted`` is payload alone, so it caps the acknowledged payload: the FIN needs no guess.
- What was put into flight is ``unique + fin``, and of that ``send_queue - not_sent`` is not acknowledged yet. So
  ``bytes_acked + send_queue - not_sent - unique`` is ``opened + fin sent``: it tells which end opened the connection.
- A socket whose application aborts (SO_LINGER 0, or connect to AF_UNSPEC) is emptied first: its notification has
  remote port 0 and all counters 0; only ``send_queue`` is then more than 0, which a socket never connected has not.
- Data sent and never acknowledged is not counted: it is the acknowledged payload that is reported.
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
"""No connection yet, or no more, or never: SYN_SENT has moved nothing; SYN_RECV and TIME_WAIT have no counters."""

_SHIFT = 16


def states_mask(states: tuple[SocketState, ...]) -> int:
    """The bits sock_diag asks for states with."""
    return sum(1 << state for state in states)


CONNECTED = states_mask(tuple(state for state in SocketState if state not in SKIPPED))


def in_states(rows: Rows, states: tuple[SocketState, ...]) -> Mask:
    """Which rows are in one of ``states``."""
    bits = np.uint64(states_mask(states))
    return np.asarray((bits >> np.minimum(rows["state"], _SHIFT)) & np.uint64(1) == 1)


def opened(rows: Rows) -> npt.NDArray[np.int8]:
    """1 where the counters prove that this end opened the connection, -1 where that it accepted it, 0 where neither.

    A socket in use is only judged while nothing is in flight, since its queues and its counters are not read at the
    same instant; a destroyed one always can be. Silent before Linux 4.19.
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
    ends = (rows["info_size"] >= SENT_COUNTED) & closed
    active = (live & (excess == 1)) | (ends & (beyond == 2))
    passive = (live & (excess == 0)) | (ends & (beyond == 0))
    return np.asarray(active.astype(np.int8) - passive.astype(np.int8))


def sent_payload(rows: Rows, syn: npt.NDArray[np.bool_]) -> Signed:
    """Payload bytes the other end acknowledged; ``syn`` where this end's SYN is among ``bytes_acked``.

    Before Linux 4.19 the FIN is taken out by state; a destroyed socket with an empty queue is taken to have sent one.
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
