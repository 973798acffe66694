"""Both endpoints of flowmap's own connections are known when they are made."""

from __future__ import annotations

import asyncio

import pytest

from flowmap.control.http.own_calls import LIMIT, OWN_CALLS, OwnCalls
from flowmap.control.http.transport import HttpTransport
from flowmap.model.address import Address, Endpoint
from tests.support.http_server import body, sends, server


def endpoint(ip: str, port: int) -> Endpoint:
    return Endpoint(Address.parse(ip), port)


NOTED = [
    (("10.0.0.1", 5), ("10.0.0.2", 443), [(endpoint("10.0.0.1", 5), endpoint("10.0.0.2", 443))]),
    (("fe80::1%eth0", 5, 0, 2), ("fe80::2", 443, 0, 2), [(endpoint("fe80::1", 5), endpoint("fe80::2", 443))]),
    ("/run/socket", "", []),
    (None, ("10.0.0.2", 443), []),
    (("host", 5), ("10.0.0.2", 443), []),
]


@pytest.mark.parametrize(("local", "remote", "noted"), NOTED)
def test_what_is_noted(local: object, remote: object, noted: list[tuple[Endpoint, Endpoint]]) -> None:
    calls = OwnCalls()
    calls.note(local, remote)
    assert list(calls.take()) == noted
    assert list(calls.take()) == []


def test_the_newest_are_kept() -> None:
    calls = OwnCalls()
    for port in range(1, LIMIT + 10):
        calls.note(("10.0.0.1", port), ("10.0.0.2", 443))
    assert [local.port for local, _ in calls.take()] == list(range(10, LIMIT + 10))


def test_the_transport_notes_each_connection_it_makes() -> None:
    async def twice(url: str) -> None:
        transport = HttpTransport()
        for _ in range(2):
            await transport.send("GET", url, {}, timeout=5.0)
        await transport.aclose()

    list(OWN_CALLS.take())
    with server(sends(body(b"{}"))) as url:  # it closes each connection
        asyncio.run(twice(url))
    made = list(OWN_CALLS.take())
    assert [str(remote) for _, remote in made] == [url.removeprefix("http://")] * 2
    assert len({local.port for local, _ in made}) == 2 and {str(local.address) for local, _ in made} == {"127.0.0.1"}
