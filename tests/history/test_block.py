"""Blocks: encoded and decoded without change; broken bytes raise DecodeError."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.errors import DecodeError
from flowmap.history.block import Block, encode
from flowmap.history.closed_flows import COLUMNS, NAMESPACE, WORKLOADS, ClosedFlows
from flowmap.model.deployment import Owner
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.workload import Workload
from tests.support.closed_flows import Flow, X, Y, closed, decision, replace, rows, spread

OWNERS = [Owner("w", "ns", f"id-{n}", f'näme "{n}"') for n in range(4)]


@st.composite
def any_flows(draw: st.DrawFn) -> ClosedFlows:
    """Columns of every width: equal values, near ones, the whole range with its limits."""
    count, rng = draw(st.integers(0, 40)), np.random.default_rng(draw(st.integers(0, 1 << 32)))
    columns = {}
    for name, dtype in COLUMNS.items():
        info = np.iinfo(dtype)
        low, high = (0, 2) if name in ("decision", *WORKLOADS, *NAMESPACE) else (int(info.min), int(info.max))
        span = int(rng.integers(0, 65))
        first = int(rng.integers(low, high, endpoint=True, dtype=dtype)) if span % 3 else low
        last = min(high, first + (1 << span) - 1)
        columns[name] = rng.integers(first, last, count, endpoint=True, dtype=dtype)
        if count > 1 and span == 64:
            columns[name][:2] = low, high
    several = st.lists(st.sampled_from(OWNERS), max_size=3, unique=True)
    decisions = draw(st.lists(several.map(lambda owners: decision(*owners)), min_size=3, max_size=3))
    workloads = st.builds(Workload, st.text(max_size=3), pid=st.none() | st.just(7))
    namespaces = st.builds(NetworkNamespace, st.integers(0, 1 << 40), st.none() | st.text(max_size=3))
    held = draw(st.lists(workloads, min_size=2, max_size=2))
    within = draw(st.lists(namespaces, min_size=2, max_size=2))
    return ClosedFlows(columns, tuple(decisions), tuple(held), tuple(within))


@settings(deadline=None)
@given(any_flows(), any_flows())
def test_encode_and_decode(one: ClosedFlows, other: ClosedFlows) -> None:
    read = Block(encode(one))
    assert len(read) == len(one)
    assert rows(read.flows()) == rows(one)
    joined = ClosedFlows.concatenate((read.flows(), other))
    assert rows(Block(encode(joined)).flows()) == rows(one) + rows(other)
    used = set(joined.columns["decision"].tolist())
    decisions, workloads, namespaces = Block(encode(joined)).referred()
    assert len(decisions) == len(used), "decisions that no flow has are not kept"
    held = {number for name in WORKLOADS for number in joined.columns[name].tolist()}
    assert len(workloads) == len(held - {0}), "workloads that no flow has are not kept"
    assert len(namespaces) == len(set(joined.columns["namespace"].tolist()) - {0}), "nor are such namespaces"


@given(st.data())
def test_broken_bytes_raise_decode_errors(data: st.DataObject) -> None:
    whole = encode(spread(40))
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for broken in (whole[:at], changed):
        try:
            Block(broken).flows()
        except DecodeError:
            continue
        assert broken is changed, "a cut block raises an error"


def test_similar_flows_take_few_bytes() -> None:
    few = closed(*(replace(Flow(), client_port=1024 + n, ended=1_700_000_000.0 + n / 100) for n in range(4000)))
    assert len(encode(few)) < 8 * len(few)


@pytest.mark.parametrize(("count", "left"), [(0, 2), (1, 2), (6, 1), (7, 0)])
def test_taken_flows_have_only_the_decisions_that_they_need(count: int, left: int) -> None:
    flows = closed(*(Flow(client_port=n, owners=((X,), (Y,))[n % 2]) for n in range(7)))
    taken = flows.take(slice(count, None))
    assert rows(taken) == rows(flows)[count:]
    assert len(taken.decisions) == left
