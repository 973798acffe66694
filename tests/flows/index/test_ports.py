"""Packed ports: one layout, read field by field and all at once."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.index import ports

ROWS = [
    ((0, 0, 0, 0), 0),
    ((1, 2, 3, 6), 1 << 48 | 2 << 32 | 3 << 16 | 6),
    ((65535, 65535, 65535, 255), 0xFFFF_FFFF_FFFF_00FF),
]


@pytest.mark.parametrize(("fields", "packed"), ROWS)
def test_pack_and_unpack(fields: tuple[int, int, int, int], packed: int) -> None:
    made = ports.pack(*(np.array([field], np.uint16) for field in fields))
    assert made.tolist() == [packed]
    assert ports.unpack(packed) == fields
    readers = (ports.client_ports, ports.server_ports, ports.zones, ports.protocols)
    assert tuple(int(read(made)[0]) for read in readers) == fields
    client, server, _, protocol = fields
    assert ports.unpack(int(ports.swapped(made)[0])) == (server, client, 0, protocol)


@pytest.mark.parametrize(("client", "server"), [(0, 0), (1, 2), (65535, 65535)])
def test_pack_and_unpack_nat(client: int, server: int) -> None:
    made = ports.pack_nat(np.array([client], np.uint16), np.array([server], np.uint16))
    assert ports.unpack_nat(int(made[0])) == (client, server)
    assert [int(column[0]) for column in ports.nat_ports(made)] == [client, server]
