"""Columns give the sockets that the general decoder gives, whatever stands between and after them."""

from __future__ import annotations

import pytest

from flowmap.wire.netlink.inet_diag import decode_socket
from flowmap.wire.netlink.inet_diag_columns import decode_sockets
from flowmap.wire.netlink.messages import Control, MessageFlag, encode_message
from tests.support.inet_diag_messages import framed, message

SMALL, LARGE = framed(message(info=bytes(range(104)))), framed(message(info=bytes(range(240))))
DONE = encode_message(Control.DONE, MessageFlag.MULTI, bytes(4))
SHORT = framed(message()[:40])
INTERRUPTED = encode_message(Control.DONE, MessageFlag.DUMP_INTR, bytes(4))


@pytest.mark.parametrize(
    ("datagrams", "sockets", "controls", "malformed", "interrupted"),
    [
        ([], 0, 0, 0, False),
        ([LARGE] * 5, 5, 0, 0, False),
        ([LARGE + SMALL + LARGE, SMALL + DONE], 4, 1, 0, False),
        ([DONE + LARGE], 1, 1, 0, False),
        ([LARGE + SHORT + SMALL], 2, 0, 1, False),
        ([LARGE + SMALL[:20], LARGE + DONE], 2, 1, 1, False),  # the rest of the first datagram is lost
        ([LARGE, b"\xff" * 16, SMALL], 2, 0, 1, False),
        ([LARGE, INTERRUPTED], 1, 1, 0, True),
    ],
)
def test_datagrams_of_any_messages(
    datagrams: list[bytes], sockets: int, controls: int, malformed: int, interrupted: bool
) -> None:
    starts = [sum(map(len, datagrams[:n])) for n in range(len(datagrams))]
    found = decode_sockets(b"".join(datagrams), starts)
    counts = len(found.sockets), len(found.controls), found.malformed, found.interrupted
    assert counts == (sockets, controls, malformed, interrupted)
    known = {tuple(decode_socket(one[16:])) for one in (SMALL, LARGE)}
    assert {tuple(row) for row in found.sockets.tolist()} <= known
