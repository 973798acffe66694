"""Finding the flows of many connections at a time, against a plain search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowmap.flows.index.lookups import EndpointColumns, LookupIndex
from flowmap.model.address import Address
from flowmap.model.views import EndpointFilter, Lookup

ADDRESSES = [Address.parse(text) for text in ("10.0.0.1", "10.0.0.2", "2001:db8::1", "::")]
addresses = st.sampled_from(ADDRESSES)
ports = st.integers(1, 3)
ends = st.tuples(addresses, ports)
wanted_ends = st.builds(EndpointFilter, addresses, st.none() | ports)


class Flow(NamedTuple):
    client: tuple[Address, int]
    server: tuple[Address, int]
    protocol: int
    guessed: bool


flows_strategy = st.lists(st.builds(Flow, ends, ends, st.sampled_from([6, 17]), st.booleans()), max_size=12)
lookups_strategy = st.lists(
    st.builds(Lookup, wanted_ends, st.none() | wanted_ends, st.sampled_from([6, 17])), min_size=1, max_size=8
)


def is_at(wanted: EndpointFilter, end: tuple[Address, int]) -> bool:
    return wanted.address == end[0] and wanted.port in (None, end[1])


def fits(lookup: Lookup, flow: Flow) -> bool:
    def in_order(client: tuple[Address, int], server: tuple[Address, int]) -> bool:
        return is_at(lookup.client, client) and (lookup.server is None or is_at(lookup.server, server))

    turned = lookup.server is not None or flow.guessed
    either = in_order(flow.client, flow.server) or (turned and in_order(flow.server, flow.client))
    return lookup.protocol == flow.protocol and either


def columns(ends: list[tuple[Address, int]]) -> EndpointColumns:
    rows = np.array([(*address, port) for address, port in ends], np.uint64).reshape(-1, 3)
    return EndpointColumns(rows[:, 0], rows[:, 1], rows[:, 2])


@given(flows=flows_strategy, lookups=lookups_strategy)
def test_it_finds_what_a_plain_search_finds(flows: list[Flow], lookups: list[Lookup]) -> None:
    found = LookupIndex(lookups).find(
        columns([flow.client for flow in flows]),
        columns([flow.server for flow in flows]),
        np.array([flow.protocol for flow in flows], np.uint64),
        np.array([flow.guessed for flow in flows], np.bool_),
    )
    expected = [[n for n, flow in enumerate(flows) if fits(lookup, flow)] for lookup in lookups]
    assert [positions.tolist() for positions in found.by_lookup(len(lookups))] == expected
