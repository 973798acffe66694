"""A cluster's own endpoints, and names of hosts."""

from __future__ import annotations

import asyncio

import pytest

from flowmap.control.clock import SYSTEM_CLOCK
from flowmap.control.flink.own import HostNames, OwnEndpoints, resolve_own
from flowmap.control.flink.records import Configured, Host
from flowmap.errors import Transient
from flowmap.model.address import Address, Endpoint

NAMES = HostNames("prod", SYSTEM_CLOCK)
LOCAL, REMOTE, ZOO = (Address.parse(text) for text in ("127.0.0.1", "10.0.0.1", "10.0.0.7"))


def own(configured: Configured, *urls: str, addresses: frozenset[Address] = frozenset()) -> OwnEndpoints:
    return asyncio.run(resolve_own(NAMES, [configured], urls, addresses))


def test_endpoints() -> None:
    configured = Configured("10.0.0.1", frozenset((6123, 6124)), (Host("10.0.0.7", 2181),), None)
    found = own(configured, "http://127.0.0.1:8081", "https://127.0.0.1")
    assert found.job_managers == {REMOTE}
    assert found.services == {
        Endpoint(REMOTE, 6123),
        Endpoint(REMOTE, 6124),
        Endpoint(LOCAL, 8081),
        Endpoint(LOCAL, 443),
    }
    assert found.coordination == {Endpoint(ZOO, 2181)}


def test_a_job_manager_of_this_host_has_all_its_addresses() -> None:
    configured = Configured("10.0.0.1", frozenset((6123,)), (), None)
    assert own(configured, addresses=frozenset((ZOO,))).job_managers == {REMOTE}
    found = own(configured, addresses=frozenset((REMOTE, ZOO)))
    assert found.job_managers == {REMOTE, ZOO}
    assert found.services == {Endpoint(REMOTE, 6123), Endpoint(ZOO, 6123)}


def test_names() -> None:
    assert LOCAL in asyncio.run(NAMES.addresses("localhost"))
    assert asyncio.run(NAMES.addresses("fe80::1%eth0")) == (Address.parse("fe80::1"),)
    assert asyncio.run(NAMES.addresses("no.such.host.invalid", needed=False)) == ()
    with pytest.raises(Transient, match="prod: cannot resolve no.such.host.invalid"):
        asyncio.run(NAMES.addresses("no.such.host.invalid"))
