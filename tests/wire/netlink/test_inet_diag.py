"""inet_diag messages: recorded ones, made ones, cut ones; the columns are held against the general decoder."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.errors import DecodeError
from flowmap.model.address import Address, Endpoint
from flowmap.wire.netlink.inet_diag import (
    AF_INET,
    AF_INET6,
    INFO_FIELDS,
    MESSAGE_SIZE,
    SOCK_DIAG_BY_FAMILY,
    DiagAttribute,
    Socket,
    SocketState,
    decode_socket,
    encode_dump,
    encode_lookup,
)
from flowmap.wire.netlink.inet_diag_columns import SOCKETS, decode_sockets
from flowmap.wire.netlink.messages import Control, MessageFlag, decode_messages, encode_attribute
from tests.support.inet_diag_messages import CGROUP, framed, message

DATA = Path(__file__).parents[2] / "data" / "inet_diag"
STARTS = {"dump4.bin": [0, 1728], "dump6.bin": [0, 2056], "destroyed.bin": list(range(0, 2280, 380))}


def general(data: bytes) -> list[Socket]:
    """The general decoder's answer."""
    return [decode_socket(message.payload) for message in decode_messages(data) if message.type == SOCK_DIAG_BY_FAMILY]


def columns(data: bytes, starts: list[int]) -> list[Socket]:
    decoded = decode_sockets(data, starts)
    assert decoded.malformed == 0
    return [Socket(*row) for row in decoded.sockets.tolist()]


def test_recorded_dump() -> None:
    sockets = general((DATA / "dump4.bin").read_bytes())
    by_ports = {(each.local_port, each.remote_port): each for each in sockets}
    (listener,) = [each for each in sockets if each.state == SocketState.LISTEN]
    assert (listener.local_port, listener.remote_port, listener.info_size) == (9092, 0, 280)
    (remnant,) = [each for each in sockets if each.state == SocketState.TIME_WAIT]
    assert (remnant.timer, remnant.info_size, remnant.bytes_acked) == (3, 0, 0)
    client, server = (
        next(s for ports, s in by_ports.items() if ports[end] == 9092 and s.state == SocketState.ESTABLISHED)
        for end in (1, 0)
    )
    assert Address(client.local_high, client.local_low) == Address.parse("127.0.0.1")
    assert (client.bytes_acked, client.bytes_sent, client.bytes_received) == (1001, 1000, 3000)
    assert (server.bytes_acked, server.bytes_sent, server.bytes_received) == (3000, 3000, 1000)
    assert client.cookie != server.cookie and client.round_trip > 0


def test_recorded_dump_ipv6() -> None:
    sockets = general((DATA / "dump6.bin").read_bytes())
    assert {(s.local_port, s.v6only) for s in sockets if s.state == SocketState.LISTEN} == {(8081, 0), (8082, 1)}
    mapped = next(s for s in sockets if s.local_port == 8081 and s.state == SocketState.CLOSE_WAIT)
    assert (mapped.family, mapped.bytes_received, mapped.receive_queue) == (AF_INET6, 1001, 1)
    assert Address(mapped.remote_high, mapped.remote_low) == Address.parse("127.0.0.1")


def test_recorded_notifications() -> None:
    sockets = general((DATA / "destroyed.bin").read_bytes())
    assert len(sockets) == 6 and {s.state for s in sockets} == {SocketState.CLOSE}
    assert {s.bytes_acked for s in sockets} == {1002, 3001}


@pytest.mark.parametrize("name", STARTS)
def test_columns_equal_the_general_decoder(name: str) -> None:
    data = (DATA / name).read_bytes()
    assert columns(data, STARTS[name]) == general(data)
    ends = [message.type for message in decode_sockets(data, STARTS[name]).controls]
    assert ends == ([Control.DONE] if name.startswith("dump") else [])


@pytest.mark.parametrize("name", STARTS)
def test_cut_at_every_byte(name: str) -> None:
    """Whole messages before the cut are read, the cut one is counted, nothing else happens."""
    data = (DATA / name).read_bytes()
    lengths = [16 + len(message.payload) for message in decode_messages(data)]
    for end in range(0, len(data), 3):
        decoded = decode_sockets(data[:end], [start for start in STARTS[name] if start < end] or [0])
        whole = sum(1 for at in range(1, len(lengths) + 1) if sum(lengths[:at]) <= end)
        sockets = general(data)[: len(decoded.sockets)]
        assert [Socket(*row) for row in decoded.sockets.tolist()] == sockets
        assert len(decoded.sockets) + len(decoded.controls) == whole
        assert decoded.malformed == (sum(lengths[:whole]) != end)


@pytest.mark.parametrize("size", [0, 3, 6, 7, 8, 104, 119, 120, 135, 136, 140, 200, 215, 216, 240, 280, 304, 1000])
@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_tcp_info_of_any_age(size: int, family: int) -> None:
    """A field is 0 unless tcp_info has it whole; what is beyond the known ones is left alone."""
    info = bytes(at * 7 % 251 + 1 for at in range(size))
    payload = message(family, info=info)
    socket = decode_socket(payload)
    assert socket.info_size == size
    for name, at, width in INFO_FIELDS:
        expected = int.from_bytes(info[at : at + width], "little") if at + width <= size else 0
        assert getattr(socket, name) == expected, name
    assert columns(framed(payload), [0]) == [socket]


def test_fixed_part() -> None:
    socket = decode_socket(message())
    assert socket[:16] == (
        *(AF_INET, 1, 1, 443, 50000, 0, 0xFFFF01020304, 0, 0xFFFF65666768),
        *(7, 0x1122334455667788, 12, 13, 14, 15, 0),
    )
    six = decode_socket(message(AF_INET6, extra=encode_attribute(DiagAttribute.SKV6ONLY, b"\x01")))
    assert (six.local_high, six.local_low) == (0x0102030405060708, 0x090A0B0C0D0E0F10)
    assert (six.v6only, six.cgroup) == (1, 0)
    inside = decode_socket(
        message(extra=encode_attribute(DiagAttribute.CGROUP_ID, (1 << 40 | 7).to_bytes(8, "little")))
    )
    assert inside.cgroup == 1 << 40 | 7


BAD = [
    (b"", "0 bytes, expected at least 72"),
    (message(info=None)[:71], "71 bytes, expected at least 72"),
    (message(1), "family 1 is neither"),
    (message(info=None, extra=b"\x03\x00\x02\x00"), "length 3"),
    (message(info=None, extra=b"\x09\x00\x02\x00"), "length 9, but 4 bytes are left"),
    (message(info=None, extra=b"\x04\x00\x02"), "3 bytes left over"),
    (message(extra=encode_attribute(DiagAttribute.SKV6ONLY, b"\x01\x00")), "2 bytes, expected 1"),
    (message(extra=encode_attribute(DiagAttribute.CGROUP_ID, b"\x01" * 4)), "4 bytes, expected 8"),
]


@pytest.mark.parametrize(("payload", "words"), BAD)
def test_bad_messages(payload: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode_socket(payload)
    good = message()
    decoded = decode_sockets(framed(good, payload, good), [0])
    assert decoded.malformed == 1
    assert [Socket(*row) for row in decoded.sockets.tolist()] == [decode_socket(good)] * 2


def test_interrupted_dump_is_told() -> None:
    assert decode_sockets(framed(message(), flags=MessageFlag.MULTI | MessageFlag.DUMP_INTR), [0]).interrupted
    assert not decode_sockets(framed(message(), flags=MessageFlag.MULTI), [0]).interrupted


@given(
    st.lists(
        st.builds(
            message,
            st.sampled_from([AF_INET, AF_INET6]),
            info=st.none() | st.sampled_from([100, 136, 216, 280]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
            extra=st.sampled_from([b"", encode_attribute(8, b"\x03"), encode_attribute(15, b"\0" * 4) * 2, CGROUP]),
            state=st.integers(0, 255),
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_any_mixture_of_layouts(payloads: list[bytes], split: int) -> None:
    first, second = framed(*payloads[:split]), framed(*payloads[split:])
    starts = [0, len(first)] if first and second else [0]
    assert columns(first + second, starts) == general(first + second)


def test_more_layouts_than_are_learned() -> None:
    """Attributes in 60 orders: the rest goes through the general decoder."""
    payloads = [message(info=None, extra=encode_attribute(30 + number, b"\0" * 4)) for number in range(60)]
    assert columns(framed(*payloads), [0]) == general(framed(*payloads))


def test_no_messages() -> None:
    decoded = decode_sockets(b"", [])
    assert len(decoded.sockets) == 0 and decoded.sockets.dtype == SOCKETS and decoded.malformed == 0


def test_requests() -> None:
    dump = encode_dump(AF_INET6, 0x5B2, sequence=5)
    assert struct.unpack_from("=IHHII", dump) == (16 + 56, SOCK_DIAG_BY_FAMILY, 0x301, 5, 0)
    assert dump[16:24] == struct.pack("=BBBBI", AF_INET6, 6, 2, 0, 0x5B2)
    assert dump[24:] == bytes(40) + b"\xff" * 8
    assert encode_dump(AF_INET, 1, info=False)[18] == 0
    local, remote = (Endpoint(Address.parse("10.0.0.1"), 1), Endpoint(Address.parse("fd00::2"), 0x1234))
    lookup = encode_lookup(local, remote, interface=3)
    assert struct.unpack_from("=IHH", lookup) == (16 + 56, SOCK_DIAG_BY_FAMILY, 1)
    assert lookup[24:28] == b"\x00\x01\x12\x34"
    assert lookup[28:44] == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert lookup[44:60] == b"\xfd" + bytes(14) + b"\x02"
    assert lookup[60:64] == struct.pack("=I", 3)


def test_message_size() -> None:
    assert MESSAGE_SIZE == 72
