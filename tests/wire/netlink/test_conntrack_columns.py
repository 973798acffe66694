"""The columnar decoder gives what the general one gives: on recordings, on mutations of them, and on any fields."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from copy import deepcopy
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.flows.records.batch import Flag
from flowmap.wire.netlink import columns as netlink_columns
from flowmap.wire.netlink import conntrack
from flowmap.wire.netlink.conntrack import CtMessage
from flowmap.wire.netlink.conntrack_columns import LAYOUTS_A_SHAPE, SHAPES, ColumnDecoder
from flowmap.wire.netlink.messages import Control, MessageFlag, encode_attribute, encode_message
from tests.support import netlink_recordings as recordings
from tests.support.conntrack_messages import (
    ADDRESSES,
    CLIENT6,
    COUNTERS,
    DUMP,
    EVENT,
    NEW,
    SERVER6,
    encode_entry,
    names,
    tcp,
)

pytestmark = recordings.little_endian

RECORDED = [datagram for name in recordings.NAMES for datagram in recordings.datagrams(name)]
DONE = encode_message(Control.DONE, MessageFlag.MULTI, bytes(4), sequence=9, port=8)


def check_same(decoder: ColumnDecoder, data: bytes, starts: Sequence[int] = (0,)) -> conntrack.DecodedEntries:
    """Decode both ways; every field of the results must be equal."""
    expected, found = conntrack.decode(data, starts), decoder.decode(data, starts)
    assert found.batch.rows() == expected.batch.rows()
    assert found[1:] == expected[1:]
    assert len(found.batch) == len(expected.batch)
    return found


@pytest.fixture
def decoder() -> ColumnDecoder:
    return ColumnDecoder(few=0)


@pytest.mark.parametrize("name", recordings.NAMES)
def test_recordings(decoder: ColumnDecoder, name: str) -> None:
    data, starts = recordings.joined(recordings.datagrams(name))
    first = check_same(decoder, data, starts)
    assert len(first.batch) >= 13
    with mock.patch.object(conntrack, "decode", side_effect=AssertionError("fell back")):
        again = decoder.decode(data, starts)
    assert again.batch.rows() == first.batch.rows()


def test_recordings_shuffled_and_in_one_datagram(decoder: ColumnDecoder) -> None:
    parts = RECORDED * 3
    random.Random(1).shuffle(parts)
    data, starts = recordings.joined(parts)
    assert len(check_same(decoder, data, starts).batch) > 600
    check_same(decoder, data)


def test_known_layouts_do_not_touch_the_general_decoder(decoder: ColumnDecoder) -> None:
    data, starts = recordings.joined([part for part in RECORDED if len(part) > 20] * 2)
    expected = decoder.decode(data, starts).batch.rows()
    with (
        mock.patch.object(conntrack, "decode_record", side_effect=AssertionError("general")),
        mock.patch.object(conntrack, "decode", side_effect=AssertionError("general")),
    ):
        assert len(decoder.decode(data, starts).batch) == len(expected)


PRIMED = ColumnDecoder(few=0)
PRIMED.decode(*recordings.joined(RECORDED))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mutations(data: st.DataObject) -> None:
    """Any bytes changed anywhere, in recorded messages, with layouts learnt before from the sound ones."""
    decoder = deepcopy(PRIMED)
    parts = data.draw(st.lists(st.sampled_from(RECORDED), min_size=1, max_size=12))
    buffer, starts = recordings.joined(parts)
    changed = bytearray(buffer)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255)), max_size=6)):
        changed[at] = value
    check_same(decoder, bytes(changed), starts)


@given(st.lists(st.binary(max_size=120), max_size=6), st.booleans())
@settings(deadline=None)
def test_any_bytes(parts: list[bytes], split: bool) -> None:
    data, starts = recordings.joined(parts)
    check_same(ColumnDecoder(few=0), data, starts if split and all(parts) else (0,))


def test_cut_at_every_byte(decoder: ColumnDecoder) -> None:
    data, starts = recordings.joined([RECORDED[0][-300:], *RECORDED[20:23]])
    for size in range(len(data)):
        check_same(decoder, data[:size], [start for start in starts if start < size] or [0])


VALUES = st.fixed_dictionaries({}, optional={n: st.integers(0, 256**s - 1) for n, s in names(conntrack.SCHEMA).items()})


@given(
    st.lists(
        st.tuples(st.sampled_from([CtMessage.NEW, CtMessage.DELETE]), st.sampled_from([NEW, EVENT, DUMP]), VALUES),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None)
def test_any_fields(entries: list[tuple[CtMessage, int, dict[str, int]]]) -> None:
    """Entries of a known kind with any fields changed, removed or added."""
    parts = [encode_entry(operation, flags, tcp() | values) for operation, flags, values in entries]
    parts += [encode_entry(operation, flags, values) for operation, flags, values in entries]
    check_same(ColumnDecoder(few=0), *recordings.joined(parts * 2))


def dump_of(*values: dict[str, int]) -> bytes:
    """A datagram of a dump: many messages of one sequence and port, and its end."""
    return b"".join(encode_entry(CtMessage.NEW, DUMP, one, sequence=9, port=8) for one in values) + DONE


def test_offloaded_entries_among_others(decoder: ColumnDecoder) -> None:
    states = (0xE, 0x400E, 0xC00E, 0x800E, 0x4008)
    found = check_same(decoder, dump_of(*(tcp(status=status) for status in states * 3)))
    offloaded = found.batch.flags & (Flag.OFFLOADED | Flag.HARDWARE)
    both = Flag.OFFLOADED | Flag.HARDWARE
    assert offloaded.tolist() == [0, Flag.OFFLOADED, both, both, Flag.OFFLOADED] * 3


def test_a_dump_of_mixed_lengths_is_framed_without_a_walk(decoder: ColumnDecoder) -> None:
    v6 = {"original_v6_source": CLIENT6, "original_v6_destination": SERVER6}
    mixed = [tcp(), tcp(**COUNTERS), v6 | {"original_protocol": 17}, tcp(id=9)] * 20
    data, starts = recordings.joined([dump_of(*mixed), dump_of(*mixed[:3])])
    with mock.patch.object(netlink_columns, "_walk", side_effect=AssertionError("walked")):
        found = check_same(decoder, data, starts)
    assert len(found.batch) == 83
    assert found.end is not None


def test_values_that_look_like_headers_do_not_mislead(decoder: ColumnDecoder) -> None:
    """Sequence and port of the dump as an entry's own values: the guess fails its proof and the walk is taken."""
    disguise = struct.unpack(">Q", struct.pack("=II", 9, 8))[0]
    found = check_same(decoder, dump_of(tcp(**COUNTERS | {"original_bytes": disguise}), tcp(), tcp()))
    assert len(found.batch) == 3


def test_a_datagram_boundary_inside_a_message_is_seen(decoder: ColumnDecoder) -> None:
    data = dump_of(tcp(), tcp())
    found = check_same(decoder, data, [0, 64])
    assert found.unframed >= 1


@pytest.mark.parametrize("length", [4, 8, 12])
def test_a_length_shorter_than_a_header_is_a_fault(decoder: ColumnDecoder, length: int) -> None:
    stub = struct.pack("=I", length) + bytes(length - 4)
    for parts in ([encode_entry(CtMessage.NEW, NEW, tcp()), stub], [stub, encode_entry(CtMessage.NEW, NEW, tcp())]):
        found = check_same(decoder, *recordings.joined(parts))
        assert (len(found.batch), found.unframed) == (1, 1)


def test_two_layouts_of_one_shape(decoder: ColumnDecoder) -> None:
    """Equal length, family and type, but the attributes stand in another order."""
    other = encode_attribute(conntrack.CtAttribute.ZONE, b"\0\5")
    one = encode_entry(CtMessage.NEW, DUMP, ADDRESSES | {"original_protocol": 50, "zone": 5})
    two = encode_entry(CtMessage.NEW, DUMP, ADDRESSES | {"original_protocol": 50}, extra=other)
    swapped = one[:20] + one[-8:] + one[20:-8]
    assert len(one) == len(two) == len(swapped)
    data, starts = recordings.joined([one, swapped, two] * 5)
    assert check_same(decoder, data, starts).batch.zone.tolist() == [5] * 15


def test_what_is_remembered_is_bounded(decoder: ColumnDecoder) -> None:
    for number in range(SHAPES + 10):
        extra = encode_attribute(99, bytes(4 * number))
        check_same(decoder, encode_entry(CtMessage.NEW, DUMP, tcp(), extra=extra))
    assert decoder.layouts <= SHAPES
    decoder = ColumnDecoder(few=0)
    for number in range(LAYOUTS_A_SHAPE + 10):
        check_same(decoder, encode_entry(CtMessage.NEW, DUMP, tcp(), extra=encode_attribute(100 + number, b"")))
    assert decoder.layouts == LAYOUTS_A_SHAPE


def test_small_buffers_go_to_the_general_decoder() -> None:
    decoder, message = ColumnDecoder(), encode_entry(CtMessage.NEW, NEW, tcp())
    assert len(decoder.decode(message).batch) == 1
    assert decoder.layouts == 0
    decoder.decode(*recordings.joined([message] * 20))
    assert decoder.layouts == 1


def test_an_empty_buffer(decoder: ColumnDecoder) -> None:
    assert len(check_same(decoder, b"", ()).batch) == 0
    assert len(check_same(decoder, b"").batch) == 0
