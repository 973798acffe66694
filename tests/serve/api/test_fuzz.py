"""Anything at all as a request to the real server: always an answer or a closed connection, never an error of ours."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from flowmap.daemon.wiring import Pipeline
from flowmap.serve.api.endpoints import STREAM
from tests.support.whole_daemon import house, in_thread

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
"""By hand: FUZZ_EXAMPLES=20000."""


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A daemon for the whole module; at the end it must still be well."""
    with pytest.MonkeyPatch.context() as monkeypatch, in_thread(lambda: house(monkeypatch)) as (pipeline, _):
        host, port = pipeline.server.address.split(":")
        yield host, int(port)
        assert ask((host, int(port)), request("GET", "/-/ready")).startswith(b"HTTP/1.1 200")
        assert gone(pipeline)


def gone(pipeline: Pipeline) -> bool:
    import time

    deadline = time.monotonic() + 15
    while pipeline.server.connections and time.monotonic() < deadline:
        time.sleep(0.05)
    return pipeline.server.connections == 0


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info
    ] == []


def request(method: str, target: str, *lines: bytes) -> bytes:
    head = [f"{method} {target} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n"


def ask(address: tuple[str, int], data: bytes, cuts: tuple[int, ...] = ()) -> bytes:
    """What comes back for ``data``, sent in pieces, once the sending side is closed."""
    answer = b""
    with socket.create_connection(address, timeout=10) as client, contextlib.suppress(OSError):
        places = sorted(cut % (len(data) + 1) for cut in cuts)
        for start, end in zip([0, *places], [*places, len(data)], strict=True):
            client.sendall(data[start:end])
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(1 << 16):
            answer += piece
    return answer


TOKENS = st.sampled_from(
    [
        *(
            b"GET",
            b"HEAD",
            b"POST",
            b"OPTIONS",
            b"CONNECT",
            b" ",
            b"  ",
            b"\t",
            b"/",
            b"*",
            b"/metrics",
            b"/api/v1/flows?",
        ),
        *(
            b"HTTP/1.1",
            b"HTTP/1.0",
            b"HTTP/2.0",
            b"HTTP/0.9",
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"\0",
            b"%00",
            b"%ff",
        ),
        *(
            b"Host: localhost",
            b"Host: ",
            b"Host: [::1",
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Content-Length: ",
        ),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"5\r\nabcde", b"0\r\n\r\n", b"ffffffffff\r\n"),
        *(
            b"Connection: close",
            b"Connection: upgrade",
            b"Upgrade: websocket",
            b"Upgrade: h2c",
            b"Expect: 100-continue",
        ),
        *(b"Authorization: Basic ", b"Accept: ", b"Accept-Encoding: gzip;q=", b"X: ", b": ", b"\xff\xfe", b"=" * 500),
    ]
)
PIECES = st.lists(TOKENS | st.binary(max_size=12), max_size=24).map(b"".join)
SHAPED = st.tuples(
    st.sampled_from(["GET", "HEAD", "POST", "TRACE", "get"]),
    st.sampled_from(["/", "/metrics", "/api/v1/flows?limit=", "/api/v1/attribution?srcIp=", "*", "/-/ready"]),
    PIECES,
).map(lambda parts: request(parts[0], parts[1], parts[2]))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300) | PIECES | SHAPED,
    cuts=st.tuples() | st.tuples(st.integers(0, 400), st.integers(0, 400)),
)
def test_any_bytes(address: tuple[str, int], data: bytes, cuts: tuple[int, ...]) -> None:
    answer = ask(address, data, cuts)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in answer
    assert b"Traceback" not in answer


HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60) | st.lists(
    st.sampled_from(
        [
            *(
                "application/openmetrics-text",
                "text/plain",
                "*/*",
                ";",
                ",",
                "q=",
                "version=",
                "1.0.0",
                "0.0.4",
                "gzip",
            ),
            *("identity", "*", "0.5", "nan", "inf", "-1", '"', "=", " ", "escaping=allow-utf-8", "charset=utf-8", "é"),
        ]
    ),
    max_size=20,
).map("".join)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(accept=HEADER_TEXT, encoding=HEADER_TEXT)
def test_any_accept(address: tuple[str, int], accept: str, encoding: str) -> None:
    import gzip

    lines = [f"Accept: {accept}".encode(), f"Accept-Encoding: {encoding}".encode()]
    head, _, body = ask(address, request("GET", "/metrics", *lines)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), (head, lines)
    if b"content-encoding: gzip" in head:
        body = gzip.decompress(body)
    parse: Any = parse_openmetrics if b"openmetrics" in head else parse_text
    assert any(family.name == "flowmap_build" for family in parse(body.decode())) or b"flowmap_build_info" in body


def test_every_question_the_description_allows(address: tuple[str, int]) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    url = f"http://{address[0]}:{address[1]}"
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.exclude(path=STREAM.path).get_all_operations():  # it has no end
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(max_examples=max(3, EXAMPLES // 12), deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                assume("" not in (case.query or {}).values())  # an empty value counts as absent
                # Whether a time exists or a cursor is known, the description cannot say: those may be refused.
                case.call_and_validate(excluded_checks=[schemathesis.checks.CHECKS.get_one("positive_data_acceptance")])

            with contextlib.suppress(Unsatisfiable):  # without parameters nothing can be wrong
                check()
