"""A stand-in for ClickHouse's HTTP interface: a small server that hands statements and bodies to the engine (chDB).

It is not ClickHouse's own server: only what flowmap uses of the interface, with the faults that the tests ask for.
Source: https://clickhouse.com/docs/en/interfaces/http.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.clickhouse.engine import Engine

PASSWORD = "secret"
SETTINGS = ("optimize_aggregation_in_order",)
"""Options of a query that are passed on to the engine."""


class StandIn:
    """The server, in a thread. ``faults`` is a list of what happens to the next requests."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.faults: deque[str] = deque()
        """``reset`` (before anything is done), ``lost reply`` (after it is done), ``held reply`` (the same, and the
        connection stays open), ``slow``, a key of ERRORS, or an empty string for none."""
        self.password = ""
        self.statements: list[str] = []
        """What reached the engine and is neither an insert with a body nor a query."""
        self.inserts: list[str] = []
        """The statements of inserts that reached the engine."""
        self.released = threading.Event()
        """Set to answer requests with the fault ``slow`` or ``held reply``."""
        self.holding = threading.Semaphore(0)
        """Released when a reply is held."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, options: dict[str, str], body: bytes, encoding: str) -> bytes:
        """Do what a request asks for. An error of the engine is a RuntimeError."""
        parameters = {name.removeprefix("param_"): text for name, text in options.items() if name.startswith("param_")}
        if "query" not in options:
            sql = body.decode()
            if sql.startswith(("SELECT", "WITH")):
                sql += "".join(f"\nSETTINGS {name} = {options[name]}" for name in SETTINGS if name in options)
            else:
                self.statements.append(sql)
            return self.engine.answer(sql, options.get("default_format", "TabSeparated"), parameters)
        self.inserts.append(options["query"])
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            into, _, form = options["query"].rpartition(" FORMAT ")
            token = options.get("insert_deduplication_token", "")
            settings = f" SETTINGS insert_deduplication_token = '{token}'" if token else ""
            compression = f" COMPRESSION '{encoding}'" if encoding else ""
            self.engine.execute(f"{into} FROM INFILE '{file.name}'{compression}{settings} FORMAT {form}")
        return b""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                fault = stand_in.faults.popleft() if stand_in.faults else ""
                if fault == "reset":
                    self.close_connection = True
                    return
                if fault == "slow":
                    stand_in.released.wait(30)
                if fault in ERRORS:
                    self._reply(*ERRORS[fault])
                    return
                if self.headers.get("x-clickhouse-key", "") != stand_in.password:
                    self._reply(403, b"Code: 516. DB::Exception: default: Authentication failed", 516)
                    return
                try:
                    answer = stand_in.answer(
                        dict(parse_qsl(urlsplit(self.path).query)), body, self.headers.get("content-encoding", "")
                    )
                except Exception as error:
                    code = re.search(r"Code: (\d+)", str(error))
                    self._reply(500, str(error).encode(), int(code[1]) if code else 1)
                    return
                if fault == "held reply":
                    stand_in.holding.release()
                    stand_in.released.wait(60)
                if fault in ("lost reply", "held reply"):
                    self.close_connection = True
                    return
                self._reply(200, answer, 0)

            def _reply(self, status: int, body: bytes, code: int) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                if code:
                    self.send_header("x-clickhouse-exception-code", str(code))
                self.end_headers()
                self.wfile.write(body)

        return Handler


ERRORS = {
    "500": (500, b"Code: 1000. DB::Exception: something broke", 1000),
    "502": (502, b"<html>bad gateway</html>", 0),
    "full": (500, b"Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space", 243),
    "parts": (500, b"Code: 252. DB::Exception: Too many parts", 252),
    "time": (500, b"Code: 159. DB::Exception: Timeout exceeded", 159),
    "denied": (403, b"Code: 497. DB::Exception: Not enough privileges", 497),
}


@contextmanager
def standing_in(engine: Engine) -> Iterator[StandIn]:
    made = StandIn(engine)
    try:
        yield made
    finally:
        made.close()


def main() -> None:
    """Serve a database with all tables until stdin ends. Prints its URL and its name."""
    engine = Engine()
    engine.make_tables()
    with standing_in(engine) as made:
        sys.stdout.write(f"{made.url} {engine.database}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
