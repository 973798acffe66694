"""Answers that go on: their lines as they come, from a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flowmap.control.http.transport import HttpTransport
from flowmap.errors import AuthError, ControlError, ProtocolError, Transient

PARTS = {"/": [b"one\ntw", b"o\n\n", b"three\nrest"], "/long": [b"x" * 50, b"x" * 60], "/cut": [b"one\n"]}
STATUSES = {"/401": 401, "/410": 410, "/503": 503}


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stop = threading.Event()

    def do_GET(self) -> None:
        self.send_response(STATUSES.get(self.path, 200))
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for part in PARTS.get(self.path, ()):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        if self.path == "/silent":
            self.stop.wait(5)
        if self.path == "/cut":
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        _Server.stop.set()
        server.shutdown()
        thread.join()


def lines(url: str, *, silence: float = 5.0) -> tuple[list[bytes], ControlError | None]:
    async def read() -> tuple[list[bytes], ControlError | None]:
        transport, found = HttpTransport(), list[bytes]()
        try:
            async for line in transport.lines(url, {}, silence=silence, limit=100):
                found.append(line)
        except ControlError as error:
            return found, error
        finally:
            await transport.aclose()
        return found, None

    return asyncio.run(read())


def test_lines(url: str) -> None:
    assert lines(f"{url}/") == ([b"one", b"two", b"three"], None)  # what ends without a line end is no line


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/401", AuthError, 401),
        ("/410", ProtocolError, 410),
        ("/503", Transient, 503),
        ("/long", ProtocolError, None),
        ("/cut", Transient, None),
        ("/silent", Transient, None),
    ],
)
def test_errors(url: str, path: str, kind: type[ControlError], status: int | None) -> None:
    found, error = lines(url + path, silence=0.2 if path == "/silent" else 5.0)
    assert (type(error), error and error.status) == (kind, status)
    assert found == ([b"one"] if path == "/cut" else [])
