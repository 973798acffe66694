"""The decoders of netlink: both of each kind must say the same, and nothing but a DecodeError may come out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flowmap.errors import DecodeError
from flowmap.wire.netlink import conntrack, rtnetlink
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder
from flowmap.wire.netlink.inet_diag import SOCK_DIAG_BY_FAMILY, Socket, decode_socket
from flowmap.wire.netlink.inet_diag_columns import decode_sockets
from flowmap.wire.netlink.messages import decode_messages, decode_status
from tests.fuzz.target import Target
from tests.support import netlink_recordings as recordings

_DATA = Path(__file__).parents[1] / "data"
_MOST = 1024  # bytes of one seed: longer ones only make it slow

_decoder = ColumnDecoder(few=0)


def both_conntracks(data: bytes) -> None:
    """The general and the columnar decoder of connection tracking messages."""
    expected, found = conntrack.decode(data), _decoder.decode(data)
    assert found.batch.rows() == expected.batch.rows()
    assert found[1:] == expected[1:]


def both_sockets(data: bytes) -> None:
    """The general and the columnar decoder of the socket table."""
    expected = []
    with suppress(DecodeError):  # the rest of the datagram
        for message in decode_messages(data):
            if message.type == SOCK_DIAG_BY_FAMILY:
                with suppress(DecodeError):
                    expected.append(decode_socket(message.payload))
    found = decode_sockets(data, [0])
    assert [Socket(*row) for row in found.sockets.tolist()] == expected


def others(data: bytes) -> None:
    """Acknowledgements with their words, and addresses of interfaces."""
    with suppress(DecodeError):
        for message in decode_messages(data):
            with suppress(DecodeError):
                decode_status(message)
            with suppress(DecodeError):
                rtnetlink.decode_address(message.payload)
            with suppress(DecodeError):
                rtnetlink.decode_broadcasts(message.payload)
            with suppress(DecodeError):
                rtnetlink.decode_link(message.payload)
            with suppress(DecodeError):
                conntrack.decode_table_size(message.payload)
    with suppress(DecodeError):
        rtnetlink.decode_address(data)
    with suppress(DecodeError):
        rtnetlink.decode_link(data)
    with suppress(DecodeError):
        rtnetlink.decode_broadcasts(data)


def _conntracks() -> Iterator[bytes]:
    for name in recordings.NAMES:
        yield from (datagram[:_MOST] for datagram in recordings.datagrams(name)[:20])


def _sockets() -> Iterator[bytes]:
    for file in sorted((_DATA / "inet_diag").glob("*.bin")):
        yield file.read_bytes()[:_MOST]


TARGETS = {
    "conntrack": Target("connection tracking messages, by both decoders", both_conntracks, _conntracks),
    "inet_diag": Target("the socket table, by both decoders", both_sockets, _sockets),
    "rtnetlink": Target("acknowledgements and interface addresses", others, _conntracks),
}
