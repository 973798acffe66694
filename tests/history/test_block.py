"""Blocks and their filters: what is written is what is read, and broken bytes are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.errors import DecodeError
from flowmap.history import bloom
from flowmap.history.block import Block, encode
from flowmap.history.closed_flows import COLUMNS, ClosedFlows
from flowmap.model.address import Address
from flowmap.model.deployment import Owner
from tests.support.closed_flows import Flow, X, Y, closed, decision, replace, rows, spread

OWNERS = [Owner("w", "ns", f"id-{n}", f'näme "{n}"') for n in range(4)]


@st.composite
def any_flows(draw: st.DrawFn) -> ClosedFlows:
    """Columns of every width: equal values, near ones, the whole range with its ends."""
    count, rng = draw(st.integers(0, 40)), np.random.default_rng(draw(st.integers(0, 1 << 32)))
    columns = {}
    for name, dtype in COLUMNS.items():
        info = np.iinfo(dtype)
        low, high = (0, 2) if name == "decision" else (int(info.min), int(info.max))
        span = int(rng.integers(0, 65))
        first = int(rng.integers(low, high, endpoint=True, dtype=dtype)) if span % 3 else low
        last = min(high, first + (1 << span) - 1)
        columns[name] = rng.integers(first, last, count, endpoint=True, dtype=dtype)
        if count > 1 and span == 64:
            columns[name][:2] = low, high
    several = st.lists(st.sampled_from(OWNERS), max_size=3, unique=True)
    decisions = draw(st.lists(several.map(lambda owners: decision(*owners)), min_size=3, max_size=3))
    return ClosedFlows(columns, tuple(decisions))


@settings(deadline=None)
@given(any_flows(), any_flows())
def test_what_is_written_is_what_is_read(one: ClosedFlows, other: ClosedFlows) -> None:
    read = Block(encode(one))
    assert len(read) == len(one)
    assert rows(read.flows()) == rows(one)
    joined = ClosedFlows.concatenate((read.flows(), other))
    assert rows(Block(encode(joined)).flows()) == rows(one) + rows(other)
    used = set(joined.columns["decision"].tolist())
    assert len(Block(encode(joined)).decisions()) == len(used), "decisions that no flow has are not kept"


@given(st.data())
def test_broken_bytes_are_told_and_never_another_error(data: st.DataObject) -> None:
    whole = encode(spread(40))
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for broken in (whole[:at], changed):
        try:
            Block(broken).flows()
        except DecodeError:
            continue
        assert broken is changed, "a cut block is no block"


def test_a_flow_costs_few_bytes_where_flows_are_alike() -> None:
    few = closed(*(replace(Flow(), client_port=1024 + n, ended=1_700_000_000.0 + n / 100) for n in range(4000)))
    assert len(encode(few)) < 8 * len(few)


PORTS = st.integers(0, 65535)
ENDS = st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"])


@given(st.lists(st.tuples(ENDS, PORTS, ENDS, PORTS), min_size=1, max_size=30), st.booleans())
def test_a_filter_never_hides_what_is_there(ends: list[tuple[str, int, str, int]], translated: bool) -> None:
    flows = [Flow(*end, translated=("10.9.0.1", 5, "10.9.0.2", 6) if translated else None) for end in ends]
    made = bloom.make(bloom.keys_of(dict(closed(*flows).columns)))
    looked_for = [*ends, ("10.9.0.1", 5, "10.9.0.2", 6)] if translated else ends
    for client, client_port, server, server_port in looked_for:
        one, other = Address.parse(client), Address.parse(server)
        for ports in ((client_port, server_port), (None, server_port), (client_port, None)):
            assert bloom.may_hold(made, bloom.key_of(one, ports[0], other, ports[1], 6))
            assert bloom.may_hold(made, bloom.key_of(other, ports[1], one, ports[0], 6)), "either way round"


def test_a_filter_turns_most_others_away() -> None:
    made = bloom.make(bloom.keys_of(dict(spread(5000).columns)))
    others = [bloom.key_of(Address(0, n), 1, Address(0, n + 1), 2, 6) for n in range(2000)]
    assert sum(bloom.may_hold(made, key) for key in others) < 40
    assert not bloom.may_hold(bloom.make(np.zeros(0, np.uint64)), others[0])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_parts_of_flows(count: int) -> None:
    flows = closed(*(Flow(client_port=n, owners=((X,), (Y,))[n % 2]) for n in range(7)))
    assert rows(flows.take(slice(count, None)).compact()) == rows(flows)[count:]
