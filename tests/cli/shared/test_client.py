"""Asking a daemon: what comes back, and what each failure is called."""

from __future__ import annotations

import httpx
import pytest

from flowmap.cli.shared.client import DaemonClient
from flowmap.errors import QueryError

PROBLEM = {
    "title": "Bad Request",
    "status": 400,
    "detail": "srcIp: is not an address",
    "errors": [{"field": "srcIp", "reason": "is not an address"}],
}

ANSWERS = [
    (httpx.Response(200, json={"flows": []}), {"flows": []}),
    (httpx.Response(400, json=PROBLEM), "srcIp: is not an address"),
    (httpx.Response(502, json={"detail": "the control plane failed\nbadly"}), "the control plane failed badly"),
    (httpx.Response(503, json={}), "the daemon answers 503"),
    (httpx.Response(200, text="<html>"), "http://daemon answers 200 without JSON; is this flowmap?"),
    (httpx.Response(200, content=b"\xff\xfe"), "http://daemon answers 200 without JSON; is this flowmap?"),
    (httpx.Response(404, json=[]), "http://daemon answers 404 with unexpected JSON; is this flowmap?"),
]


@pytest.mark.parametrize(("response", "expected"), ANSWERS)
def test_answer(response: httpx.Response, expected: object) -> None:
    with DaemonClient("http://daemon/", transport=httpx.MockTransport(lambda _: response)) as client:
        if isinstance(expected, dict):
            assert client.get("flows") == expected
        else:
            with pytest.raises(QueryError) as caught:
                client.get("flows")
            assert str(caught.value) == expected


UNKNOWN = httpx.Response(404, json={"status": 404}, headers={"content-type": "application/problem+json"})


def test_what_the_daemon_does_not_know_is_none() -> None:
    with DaemonClient("http://daemon", transport=httpx.MockTransport(lambda _: UNKNOWN)) as client:
        assert client.find("deployments/x") is None


@pytest.mark.parametrize("response", [httpx.Response(404, text="<html>"), httpx.Response(404, json={"a": 1})])
def test_somebody_elses_404_says_nothing(response: httpx.Response) -> None:
    with (
        DaemonClient("http://daemon", transport=httpx.MockTransport(lambda _: response)) as client,
        pytest.raises(QueryError),
    ):
        client.find("deployments/x")


def test_parameters_left_out_are_not_sent() -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={})

    with DaemonClient("http://daemon", transport=httpx.MockTransport(answer)) as client:
        client.get("flows", {"peer": "a b&c", "state": None, "limit": 3})
    assert str(asked[0]) == "http://daemon/api/v1/flows?peer=a+b%26c&limit=3"


FAILURES = [
    (httpx.ConnectError("refused"), "no daemon answers at http://daemon; start one with `flowmap run`"),
    (httpx.ReadTimeout("too slow"), "http://daemon: no answer in 30 s; the daemon hangs"),
    (httpx.RemoteProtocolError(""), "http://daemon: RemoteProtocolError"),
]


@pytest.mark.parametrize(("error", "message"), FAILURES)
def test_failure(error: httpx.HTTPError, message: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with (
        DaemonClient("http://daemon", transport=httpx.MockTransport(fail)) as client,
        pytest.raises(QueryError) as caught,
    ):
        client.get("status")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("url", ["", "daemon:1", "ftp://x", "http://", "127.0.0.1:10817"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(QueryError, match="is not the URL of a daemon"):
        DaemonClient(url)
