"""The general decoder: rows both ways, recorded messages, missing and broken parts."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.errors import DecodeError
from flowmap.flows.records.batch import COLUMNS, Flag, RecordKind
from flowmap.model.address import Address
from flowmap.wire.netlink import conntrack
from flowmap.wire.netlink.conntrack import (
    SCHEMA,
    CtMessage,
    CtTcpState,
    TableSize,
    decode,
    decode_record,
    decode_table_size,
    encode_dump_request,
    read_fields,
)
from flowmap.wire.netlink.messages import (
    AttributeReader,
    Control,
    MessageFlag,
    ReplyStatus,
    decode_messages,
    encode_attribute,
    encode_message,
)
from tests.support import netlink_recordings as recordings
from tests.support.conntrack_messages import (
    ADDRESSES,
    AF_INET6,
    CLIENT6,
    COUNTERS,
    DUMP,
    EVENT,
    NEW,
    OTHER,
    SERVER6,
    encode_entry,
    encode_fields,
    names,
    tcp,
)

ENTRIES, LIMIT = 1, 2  # CTA_STATS_GLOBAL_ENTRIES, CTA_STATS_GLOBAL_MAX_ENTRIES


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        ({ENTRIES: b"\0\0\0\5", LIMIT: b"\0\1\0\0"}, TableSize(5, 65536)),
        ({ENTRIES: bytes(4)}, TableSize(0, None)),
        ({ENTRIES: bytes(4), 99: b"later"}, TableSize(0, None)),
    ],
)
def test_how_full_the_table_is(numbers: dict[int, bytes], size: TableSize) -> None:
    attributes = b"".join(encode_attribute(kind, value) for kind, value in numbers.items())
    assert decode_table_size(bytes(4) + attributes) == size


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "is missing"),
        (bytes(4), "is missing"),
        (bytes(4) + encode_attribute(ENTRIES, b"\5"), "1 bytes, expected 4"),
        (bytes(4) + encode_attribute(ENTRIES, bytes(4))[:-1], "length 8"),
    ],
)
def test_statistics_that_cannot_be_right(payload: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode_table_size(payload)


def without(values: dict[str, int], *names: str) -> dict[str, int]:
    return {name: value for name, value in values.items() if name not in names}


def record(operation: CtMessage, flags: int, values: dict[str, int]) -> dict[str, int]:
    (message,) = decode_messages(encode_entry(operation, flags, values))
    return dict(zip(COLUMNS, decode_record(message), strict=True))


def ends(prefix: str, client: str, client_port: int, server: str, server_port: int) -> dict[str, int]:
    result = {}
    for name, text, port in (("client", client, client_port), ("server", server, server_port)):
        address = Address.parse(text)
        result[f"{prefix}{name}_high"], result[f"{prefix}{name}_low"] = address
        result[f"{prefix}{name}_port"] = port
    return result


ANSWERED = Flag.REPLIED | Flag.ASSURED
PLAIN = ends("", "10.0.0.1", 40000, "10.0.0.2", 9092) | ends("translated_", "10.0.0.1", 40000, "10.0.0.2", 9092)


@pytest.mark.parametrize(
    "operation, flags, kind",
    [
        (CtMessage.NEW, NEW, RecordKind.OPENED),
        (CtMessage.NEW, EVENT, RecordKind.UPDATED),
        (CtMessage.NEW, DUMP, RecordKind.DUMPED),
        (CtMessage.NEW, DUMP | MessageFlag.DUMP_INTR, RecordKind.DUMPED),
        (CtMessage.DELETE, EVENT, RecordKind.CLOSED),
    ],
)
def test_kind(operation: CtMessage, flags: int, kind: RecordKind) -> None:
    found = record(operation, flags, tcp())
    assert found == dict.fromkeys(COLUMNS, 0) | PLAIN | {
        "kind": kind,
        "flags": ANSWERED,
        "protocol": 6,
        "id": 0xFFFF_FFFE,
    }


@pytest.mark.parametrize(
    "values, expected",
    [
        pytest.param(
            tcp(**COUNTERS),
            {
                "flags": Flag.COUNTERS | ANSWERED,
                "transmit_bytes": 400,
                "transmit_packets": 3,
                "receive_bytes": 2**64 - 1,
                "receive_packets": 2,
            },
            id="counters",
        ),
        pytest.param(
            tcp(original_packets=3, original_bytes=400),
            {"flags": ANSWERED, "transmit_bytes": 0},
            id="counters of one direction are none",
        ),
        pytest.param(
            tcp(original_packets=3, reply_packets=2), {"flags": ANSWERED, "transmit_packets": 0}, id="no bytes"
        ),
        pytest.param(
            tcp(reply_v4_source=OTHER, reply_source_port=19092),
            {"flags": ANSWERED | Flag.TRANSLATED} | ends("translated_", "10.0.0.1", 40000, "10.0.0.3", 19092),
            id="destination translated",
        ),
        pytest.param(
            tcp(reply_v4_destination=OTHER, reply_destination_port=1024),
            {"flags": ANSWERED | Flag.TRANSLATED} | ends("translated_", "10.0.0.3", 1024, "10.0.0.2", 9092),
            id="source translated",
        ),
        pytest.param(
            tcp(reply_destination_port=40001),
            {"flags": ANSWERED | Flag.TRANSLATED} | ends("translated_", "10.0.0.1", 40001, "10.0.0.2", 9092),
            id="only a port translated",
        ),
        pytest.param(
            without(tcp(), *(name for name in tcp() if name.startswith("reply"))),
            PLAIN | {"flags": ANSWERED},
            id="no reply tuple",
        ),
        pytest.param(tcp(status=0x8), {"flags": 0}, id="unanswered"),
        pytest.param(tcp(status=0x4), {"flags": ANSWERED}, id="assured"),
        pytest.param(tcp(status=0xA), {"flags": Flag.REPLIED}, id="a handshake that is not over"),
        pytest.param(
            without(tcp(status=0xA, original_protocol=17, reply_protocol=17), "tcp_state"),
            {"flags": ANSWERED, "protocol": 17},
            id="an answer where there is no handshake",
        ),
        pytest.param(tcp(status=0x400E), {"flags": ANSWERED | Flag.OFFLOADED}, id="offloaded"),
        pytest.param(
            tcp(status=0xC00E), {"flags": ANSWERED | Flag.OFFLOADED | Flag.HARDWARE}, id="offloaded to hardware"
        ),
        pytest.param(
            tcp(status=0x800E), {"flags": ANSWERED | Flag.OFFLOADED | Flag.HARDWARE}, id="the hardware bit alone"
        ),
        pytest.param(without(tcp(), "status", "id"), {"flags": 0, "id": 0}, id="neither status nor id"),
        pytest.param(tcp(zone=9), {"zone": 9}, id="zone"),
        pytest.param(tcp(original_zone=5), {"zone": 5}, id="zone of the original direction"),
        pytest.param(tcp(reply_zone=5), {"zone": 0}, id="zone of the reply direction"),
        pytest.param(tcp(started=1_700_000_000_123_456_789), {"started": 1_700_000_000_123_456_789}, id="started"),
    ],
)
def test_fields(values: dict[str, int], expected: dict[str, int]) -> None:
    found = record(CtMessage.NEW, EVENT, values)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("state", CtTcpState)
def test_a_connection_is_ending_from_the_first_fin_on(state: CtTcpState) -> None:
    ending = {"FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE"}
    found = record(CtMessage.NEW, EVENT, tcp(tcp_state=state))
    assert bool(found["flags"] & Flag.ENDING) == (state.name in ending)


def test_ipv6() -> None:
    values = {
        "original_v6_source": CLIENT6,
        "original_v6_destination": SERVER6,
        "reply_v6_source": SERVER6,
        "reply_v6_destination": CLIENT6,
        "original_protocol": 17,
        "original_source_port": 1,
        "original_destination_port": 65535,
        "reply_source_port": 65535,
        "reply_destination_port": 1,
    }
    found = record(CtMessage.NEW, EVENT, values)
    expected = ends("", "2001:db8::1", 1, "2001:db8::ffff:0:0:2", 65535) | {"protocol": 17, "flags": 0}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    "protocol, more, ports",
    [
        pytest.param(1, {"original_icmp_id": 77, "reply_icmp_id": 77}, (77, 0, 77, 0), id="icmp"),
        pytest.param(58, {"original_icmpv6_id": 78, "reply_icmpv6_id": 79}, (78, 0, 79, 0), id="icmpv6, id translated"),
        pytest.param(50, {}, (0, 0, 0, 0), id="no ports"),
        pytest.param(253, {}, (0, 0, 0, 0), id="no name either"),
    ],
)
def test_other_protocols(protocol: int, more: dict[str, int], ports: tuple[int, ...]) -> None:
    values = ADDRESSES | more | {"original_protocol": protocol, "reply_protocol": protocol}
    found = record(CtMessage.NEW, EVENT, values)
    names = ("client_port", "server_port", "translated_client_port", "translated_server_port")
    assert tuple(found[name] for name in names) == ports
    assert found["protocol"] == protocol
    assert bool(found["flags"] & Flag.TRANSLATED) == (ports[0] != ports[2])


@pytest.mark.parametrize(
    "missing, fault",
    [
        (("original_protocol",), "no protocol"),
        (("original_v4_source",), "original tuple has no source address"),
        (("original_v4_destination",), "original tuple has no destination address"),
        (("reply_v4_destination",), "reply tuple has no destination address"),
    ],
)
def test_what_cannot_be_a_flow_is_refused(missing: tuple[str, ...], fault: str) -> None:
    with pytest.raises(DecodeError, match=fault):
        record(CtMessage.NEW, EVENT, without(tcp(), *missing))


def test_a_message_of_another_kind_is_refused() -> None:
    (message,) = decode_messages(encode_message(0x0200, 0, bytes(4)))
    with pytest.raises(DecodeError, match="0x200 is not a conntrack entry"):
        decode_record(message)


def test_the_dump_request_is_what_the_kernel_expects() -> None:
    assert encode_dump_request(7) == struct.pack("=IHHII", 20, 0x0101, 0x0301, 7, 0) + bytes(4)
    assert encode_dump_request(7, AF_INET6)[16:] == b"\x0a\0\0\0"


def test_control_messages_tell_how_a_dump_ended() -> None:
    entry = encode_entry(CtMessage.NEW, DUMP | MessageFlag.DUMP_INTR, tcp())
    done = encode_message(Control.DONE, DUMP, struct.pack("=i", -4))
    found = decode(entry + done)
    assert (len(found.batch), found.interrupted, found.end, found.malformed) == (1, True, ReplyStatus(4), 0)
    noop = decode(encode_message(Control.NOOP, 0, b""))
    assert (len(noop.batch), noop.end, noop.malformed) == (0, None, 0)


def test_malformed_messages_are_counted_and_passed_over() -> None:
    good, foreign = encode_entry(CtMessage.NEW, NEW, tcp()), encode_message(0x0200, 0, bytes(4))
    found = decode(good + foreign + encode_message(CtMessage.NEW, 0, b"") + good)
    assert (len(found.batch), found.malformed, found.unframed) == (2, 2, 0)
    assert "0x200" in found.fault


def test_a_datagram_that_cannot_be_framed_spares_the_others() -> None:
    good = encode_entry(CtMessage.NEW, NEW, tcp())
    data, starts = recordings.joined([good, good + b"\1\0\0\0" + bytes(16), good])
    found = decode(data, starts)
    assert (len(found.batch), found.malformed, found.unframed) == (3, 1, 1)


def test_cut_at_every_byte_it_is_a_shorter_result_or_a_fault() -> None:
    values = tcp(**COUNTERS, tcp_state=3, started=5, zone=4)
    message = encode_entry(CtMessage.NEW, NEW, values)
    for size in range(len(message)):
        found = decode(message[:size])
        assert len(found.batch) == 0
        assert found.malformed == found.unframed == (1 if size else 0)
    body = message[16:]
    for size in range(len(body)):
        found = decode(encode_message(CtMessage.NEW, NEW, body[:size]))
        assert len(found.batch) + found.malformed == 1


@given(st.fixed_dictionaries({}, optional={n: st.integers(0, 256**s - 1) for n, s in names(SCHEMA).items()}))
def test_fields_go_two_ways(values: dict[str, int]) -> None:
    reader, found = AttributeReader(encode_fields(SCHEMA, values), "test"), dict[str, int]()
    read_fields(reader, SCHEMA, found)
    reader.check()
    assert found == values


def test_unknown_attributes_are_passed_over_and_flag_bits_ignored() -> None:
    extra = encode_attribute(99, b"whatever") + encode_attribute(conntrack.CtAttribute.ID | 0x4000, b"\0\0\0\5")
    (message,) = decode_messages(encode_entry(CtMessage.NEW, EVENT, without(tcp(), "id"), extra=extra))
    assert dict(zip(COLUMNS, decode_record(message), strict=True))["id"] == 5


@recordings.little_endian
@pytest.mark.parametrize("name", recordings.NAMES)
def test_recorded_messages_decode_whole(name: str) -> None:
    data, starts = recordings.joined(recordings.datagrams(name))
    found = decode(data, starts)
    assert found.malformed == 0
    assert (found.end == ReplyStatus(0)) == name.startswith("dump")
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found.batch.rows()]
    assert {row["protocol"] for row in rows} == {1, 6, 17, 58}
    assert {row["zone"] for row in rows} == {0, 7}
    assert all(row["id"] for row in rows)


def recorded(name: str) -> list[dict[str, Any]]:
    data, starts = recordings.joined(recordings.datagrams(name))
    return [dict(zip(COLUMNS, row, strict=True)) for row in decode(data, starts).batch.rows()]


@recordings.little_endian
def test_recorded_events_tell_a_whole_life() -> None:
    rows = recorded("events-stamped")
    by_kind = {kind: {row["id"] for row in rows if row["kind"] == kind} for kind in RecordKind}
    assert by_kind[RecordKind.OPENED] == by_kind[RecordKind.CLOSED]
    assert len(by_kind[RecordKind.OPENED]) == 13
    assert not any(row["flags"] & Flag.COUNTERS for row in rows if row["kind"] == RecordKind.OPENED)
    closed = [row for row in rows if row["kind"] == RecordKind.CLOSED]
    assert all(row["flags"] & Flag.COUNTERS and row["transmit_bytes"] for row in closed)
    assert all(row["started"] > 1_700_000_000 * 10**9 for row in closed)
    assert all(row["flags"] & Flag.ENDING for row in closed if row["protocol"] == 6)


@recordings.little_endian
def test_recorded_nat_has_both_tuples() -> None:
    rows = [row for row in recorded("dump-counted") if row["server_port"] == 80]
    expected = ends("", "10.1.0.2", rows[0]["client_port"], "10.1.0.1", 80)
    expected |= ends("translated_", "10.2.0.1", rows[0]["translated_client_port"], "10.2.0.2", 8080)
    assert [{name: row[name] for name in expected} for row in rows] == [expected]
    assert rows[0]["flags"] & Flag.TRANSLATED
