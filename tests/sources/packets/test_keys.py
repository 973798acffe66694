"""Keys are equal for both directions of a flow, differ between flows, and group packets even if hashes collide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.flows.index.hash_index import Hasher
from flowmap.sources.packets.keys import WIDE, Grouping, Keys, keys_of
from tests.support.packets import Packet, packets_of

HASHER = Hasher(bytes(range(1, 49)))
ADDRESSES = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1"]


def swapped(packet: Packet) -> Packet:
    ends = packet.destination, packet.destination_port, packet.source, packet.source_port
    return replace(packet, source=ends[0], source_port=ends[1], destination=ends[2], destination_port=ends[3])


made = st.builds(
    Packet,
    st.sampled_from(ADDRESSES),
    st.sampled_from([1, 2, 65_535]),
    st.sampled_from(ADDRESSES),
    st.sampled_from([1, 2, 65_535]),
    st.sampled_from([6, 17]),
)


def flow(packet: Packet) -> tuple[int, frozenset[tuple[str, int]]]:
    ends = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
    return packet.protocol, frozenset(ends)


@given(st.lists(made, min_size=1, max_size=40), st.booleans())
@settings(deadline=None)
def test_groups_are_flows(packets: list[Packet], collide: bool) -> None:
    keys = keys_of(packets_of(*packets), HASHER)
    if collide:  # only the uppermost bit differs
        keys = Keys(keys.ends, keys.meta, keys.wide, keys.turned, keys.hashes & np.uint64(1 << 63 | 1 << 20))
    group, first = Grouping()(keys)
    seen: dict[object, int] = {}
    assert group.tolist() == [seen.setdefault(flow(packet), len(seen)) for packet in packets]
    assert [flow(packets[place]) for place in first.tolist()] == list(seen)


@pytest.mark.parametrize(
    ("packet", "wide"),
    [
        (Packet(), False),
        (Packet(source="2001:db8::1", destination="::1"), True),
        (Packet(source="::ffff:1.2.3.4"), False),
    ],
)
def test_both_directions_have_the_same_key(packet: Packet, wide: bool) -> None:
    keys = keys_of(packets_of(packet, swapped(packet)), HASHER)
    assert keys.hashes[0] == keys.hashes[1]
    assert keys.same(np.array([0]), np.array([1])).all()
    assert keys.turned.tolist() in ([True, False], [False, True])
    assert bool(keys.meta[0] & WIDE) is wide
