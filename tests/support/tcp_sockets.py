"""TCP sockets as sock_diag reports them, for tests of the sockets source."""

from __future__ import annotations

import numpy as np

from flowmap.model.address import Address
from flowmap.sources.sockets.tracker import FACTS, Facts
from flowmap.wire.netlink.inet_diag import Socket, SocketState
from flowmap.wire.netlink.inet_diag_columns import SOCKETS, Rows

NOTHING = dict.fromkeys(Socket._fields, 0)


CLIENT, SERVER = "10.0.0.1", "10.0.0.2"


def sock(local: str = CLIENT, remote: str = SERVER, ports: tuple[int, int] = (40000, 9092), **fields: int) -> Socket:
    """An IPv4 connection, by default seen from the client."""
    here, there = Address.parse(local), Address.parse(remote)
    known = {"local_high": here.high, "local_low": here.low, "remote_high": there.high, "remote_low": there.low}
    known |= {"local_port": ports[0], "remote_port": ports[1], "info_size": 280, "state": SocketState.ESTABLISHED}
    return Socket(**NOTHING | known | fields)


def turned(socket: Socket, **fields: int) -> Socket:
    """The peer socket."""
    endpoints = {
        f"{a}_{part}": getattr(socket, f"{b}_{part}")
        for a, b in (("local", "remote"), ("remote", "local"))
        for part in ("high", "low", "port")
    }
    return Socket(**NOTHING | endpoints | {"info_size": 280, "state": socket.state} | fields)


def rows(*sockets: Socket) -> Rows:
    return np.array([tuple(each) for each in sockets], SOCKETS)


S = SocketState


def facts(role: int = 1, *, here: bool = False, number: int = 1, **more: int) -> Facts:
    made = np.zeros(number, FACTS)
    made["role"], made["syn"], made["here"] = role, role > 0, here
    made["pair"], made["side"] = 77, role
    for name, value in more.items():
        made[name] = value
    return made
