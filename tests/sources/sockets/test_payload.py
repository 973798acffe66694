"""Payload bytes from TCP counters."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.sources.sockets.payload import opened, received_payload, sent_payload
from flowmap.wire.netlink.inet_diag import SocketState
from tests.support.tcp_sockets import S, rows, sock

COUNTERS = [  # state, fields, opened, sent, received (with what is known of the FIN): payload is 1000 up, 3000 down
    (S.ESTABLISHED, {"bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3000}, 1, 1000, 3000),
    (S.ESTABLISHED, {"bytes_acked": 3000, "bytes_sent": 3000, "bytes_received": 1000}, -1, 3000, 1000),
    (S.ESTABLISHED, {"bytes_acked": 1, "bytes_sent": 0, "bytes_received": 3000}, 1, 0, 3000),
    # repeated segments are sent twice and acknowledged once
    (
        S.ESTABLISHED,
        {"bytes_acked": 1001, "bytes_sent": 1500, "bytes_retransmitted": 500, "bytes_received": 3000},
        *(1, 1000, 3000),
    ),
    # in flight: nothing is proved, the role of the row says that it is a client's
    (S.ESTABLISHED, {"bytes_acked": 501, "bytes_sent": 1000, "unacked": 1, "send_queue": 500}, 0, 500, 0),
    (S.CLOSE_WAIT, {"bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3001}, 1, 1000, 3000),
    (S.FIN_WAIT1, {"bytes_acked": 1001, "bytes_sent": 1000, "unacked": 1, "bytes_received": 3000}, 0, 1000, 3000),
    (S.FIN_WAIT2, {"bytes_acked": 1002, "bytes_sent": 1000, "bytes_received": 3000}, 1, 1000, 3000),
    (S.FIN_WAIT2, {"bytes_acked": 3001, "bytes_sent": 3000, "bytes_received": 1000}, -1, 3000, 1000),
    (S.LAST_ACK, {"bytes_acked": 1001, "bytes_sent": 1000, "unacked": 1, "bytes_received": 3001}, 0, 1000, 3000),
    (S.CLOSING, {"bytes_acked": 1001, "bytes_sent": 1000, "unacked": 1, "bytes_received": 3001}, 0, 1000, 3000),
    (S.CLOSE, {"bytes_acked": 1002, "bytes_sent": 1000, "bytes_received": 3000}, 1, 1000, 3000),
    (S.CLOSE, {"bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3000}, 0, 1000, 3000),
    (S.CLOSE, {"bytes_acked": 3000, "bytes_sent": 3000, "bytes_received": 1000}, -1, 3000, 1000),
    # destroyed with 200 bytes and its FIN unacknowledged: what was acknowledged counts
    (
        S.CLOSE,
        {"bytes_acked": 801, "bytes_sent": 1000, "send_queue": 201, "bytes_received": 3000},
        *(1, 800, 3000),
    ),
    # before 4.19
    (S.ESTABLISHED, {"bytes_acked": 1001, "bytes_received": 3000, "info_size": 192}, 0, 1000, 3000),
    (S.FIN_WAIT2, {"bytes_acked": 1002, "bytes_received": 3000, "info_size": 192}, 0, 1000, 3000),
]


@pytest.mark.parametrize(("state", "fields", "opener", "sent", "received"), COUNTERS)
def test_payload(state: SocketState, fields: dict[str, int], opener: int, sent: int, received: int) -> None:
    row = rows(sock()._replace(**fields, state=state))
    assert opened(row).tolist() == [opener]
    assert sent_payload(row, np.array([opener >= 0])).tolist() == [sent]
    fin = np.array([state in (S.CLOSE_WAIT, S.LAST_ACK, S.CLOSING)])
    assert received_payload(row, fin).tolist() == [received]
