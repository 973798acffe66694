"""Bloom filters of blocks: no false negatives, few false positives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowmap.history import bloom
from flowmap.model.address import Address
from tests.support.closed_flows import Flow, closed, spread

PORTS = st.integers(0, 65535)
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"])


@given(st.lists(st.tuples(ADDRESSES, PORTS, ADDRESSES, PORTS), min_size=1, max_size=30), st.booleans())
def test_no_false_negatives(tuples: list[tuple[str, int, str, int]], translated: bool) -> None:
    flows = [Flow(*one, translated=("10.9.0.1", 5, "10.9.0.2", 6) if translated else None) for one in tuples]
    made = bloom.make(bloom.keys_of(dict(closed(*flows).columns)))
    wanted = [*tuples, ("10.9.0.1", 5, "10.9.0.2", 6)] if translated else tuples
    for client, client_port, server, server_port in wanted:
        one, other = Address.parse(client), Address.parse(server)
        for ports in ((client_port, server_port), (None, server_port), (client_port, None)):
            assert bloom.may_hold(made, bloom.key_of(one, ports[0], other, ports[1], 6))
            assert bloom.may_hold(made, bloom.key_of(other, ports[1], one, ports[0], 6)), "either way round"


def test_few_false_positives() -> None:
    made = bloom.make(bloom.keys_of(dict(spread(5000).columns)))
    others = [bloom.key_of(Address(0, n), 1, Address(0, n + 1), 2, 6) for n in range(2000)]
    assert sum(bloom.may_hold(made, key) for key in others) < 40
    assert not bloom.may_hold(bloom.make(np.zeros(0, np.uint64)), others[0])
