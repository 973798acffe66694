"""ClickHouse over HTTP: statements, queries with bound parameters, and inserts with bodies.

A client library would add four packages for what is one POST with a body that this room encodes itself.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import httpx

from flowmap.control.http.own_calls import OWN_CALLS
from flowmap.control.http.transport import quiet_http_loggers
from flowmap.errors import HistoryError, QueryError

CONNECT_TIMEOUT = 5.0
"""Seconds for DNS, TCP and TLS."""
QUERY_SECONDS = 8.0
"""Time limit of a query, as of one of the local history. The server keeps it."""
LATE_SECONDS = 2.0
"""Time after it in which the answer must arrive."""
INSERT_SECONDS = 60.0
"""Time limit of an insert: a server under load merges parts first."""
MOST_BYTES = 64 << 20
"""Size of an answer."""

Value = str | int | float | bool | Sequence[str]

_REASONS = {
    **dict.fromkeys((192, 193, 194, 516), "auth"),
    **dict.fromkeys((164, 497), "denied"),
    **dict.fromkeys((16, 36, 44, 46, 47, 60, 81), "tables"),
    **dict.fromkeys((243, 1001), "disk_full"),
    **dict.fromkeys((242,), "read_only"),
    **dict.fromkeys((202, 241, 252, 473), "busy"),
}
"""By the code of an exception: src/Common/ErrorCodes.cpp of ClickHouse."""
_TOO_LONG = (159, 160, 307, 396)
"""A limit of a query: TIMEOUT_EXCEEDED, TOO_SLOW, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES."""
NARROWER = "narrow the question: a shorter time, or a smaller --limit"
_REMEDIES = {
    "auth": "see user and password_file of history.clickhouse",
    "denied": "see the rights in flowmap/clickhouse/README.md",
    "tables": "run `flowmap fleet init`",
    "disk_full": "give the server more disk",
    "tls": "see history.clickhouse.tls",
    "connect": "see history.clickhouse.url",
    "timeout": "see whether the server hangs or has too much to do",
}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server is and how to log in."""

    url: str
    database: str = "flowmap"
    user: str = "default"
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class Server:
    """One server. Any thread may use it; connections are kept. Every failure is a HistoryError with a reason."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._client: httpx.Client | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def rows(
        self, sql: str, parameters: Mapping[str, Value] | None = None, *, seconds: float | None = None
    ) -> list[list[Any]]:
        """The rows of a query, tuples and arrays as lists. ``parameters``: for ``{name:Type}`` in it.

        QueryError if it takes longer than ``seconds`` (default: :data:`QUERY_SECONDS`) or the answer is over 64 MiB.
        """
        seconds = QUERY_SECONDS if seconds is None else seconds
        options = {
            "default_format": "JSONCompact",
            "output_format_json_quote_64bit_integers": "0",
            "output_format_json_named_tuples_as_objects": "0",
            "max_execution_time": f"{seconds:g}",
            "max_result_bytes": str(MOST_BYTES),
            # The tables are in the order by which `connections` groups them. Without it memory grows with the rows.
            "optimize_aggregation_in_order": "1",
            **{f"param_{name}": _written(value) for name, value in (parameters or {}).items()},
        }
        answer = self._post(options, sql.encode(), seconds=seconds + LATE_SECONDS)
        try:
            found: list[list[Any]] = json.loads(answer)["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise HistoryError(f"{self.address.url}: the answer is not one of ClickHouse", reason="protocol") from error
        return found

    def run(self, statement: str, *, database: bool = True, seconds: float = INSERT_SECONDS) -> None:
        """Run a statement. ``database``: in the database of the address; otherwise in none."""
        self._post({}, statement.encode(), seconds=seconds, database=database)

    def insert(
        self, into: str, body: bytes, *, encoding: str | None = None, token: str = "", few: bool = False
    ) -> None:
        """Insert a body; ``into``: the statement up to its format. When this returns, the rows are in the table.

        ``token``: a repeat with it adds no rows if it comes soon. ``few``: the server may collect the rows with those
        of others before it writes them.
        """
        options = {"query": into}
        if few:  # collected inserts have no tokens, and some versions refuse them with deduplication in views
            options |= {"async_insert": "1", "wait_for_async_insert": "1"}
            options |= {"deduplicate_blocks_in_dependent_materialized_views": "0"}
        else:
            options |= {"async_insert": "0", "insert_deduplicate": "1", "insert_deduplication_token": token}
        self._post(options, body, seconds=INSERT_SECONDS, encoding=encoding)

    def close(self) -> None:
        """Close the connections; calls that wait for an answer fail. The next call makes new ones."""
        client, self._client = self._client, None
        for one in list(self._sockets):  # to close one does not wake up a thread that reads it
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        if client is not None:
            client.close()

    def _post(
        self,
        options: Mapping[str, str],
        body: bytes,
        *,
        seconds: float,
        database: bool = True,
        encoding: str | None = None,
    ) -> bytes:
        client = self._client or self._open()
        headers = {"x-clickhouse-user": self.address.user, "x-clickhouse-key": self._password()}
        if encoding:
            headers["content-encoding"] = encoding
        # With wait_end_of_query an error has its status: otherwise it may follow the first rows of an answer.
        parameters = {**options, "wait_end_of_query": "1"}
        if database:
            parameters["database"] = self.address.database
        try:
            reply = client.post(
                self.address.url,
                params=parameters,
                content=body,
                headers=headers,
                timeout=httpx.Timeout(seconds, connect=CONNECT_TIMEOUT),
                extensions={"trace": self._note},
            )
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, RuntimeError) as error:
            raise self._unreached(error) from None  # its context has the request, which has the password
        if reply.status_code != 200:
            raise self._refused(reply)
        return reply.content

    def _note(self, event: str, details: Mapping[str, Any]) -> None:
        if event not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        stream = details["return_value"]
        self._sockets.add(stream.get_extra_info("socket"))
        if event == "connection.connect_tcp.complete":
            OWN_CALLS.note(stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr"))

    def _open(self) -> httpx.Client:
        quiet_http_loggers()
        self._client = httpx.Client(verify=self._tls(), trust_env=False, follow_redirects=False)
        return self._client

    def _tls(self) -> ssl.SSLContext:
        address = self.address
        try:
            context = httpx.create_ssl_context(trust_env=False)
            if address.ca_file is not None:
                context = ssl.create_default_context(cafile=address.ca_file)
            if address.cert_file is not None:
                context.load_cert_chain(address.cert_file, address.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (address.ca_file, address.cert_file, address.key_file)))
            raise HistoryError(f"history.clickhouse.tls: {files}: {error}", reason="tls") from error
        return context

    def _password(self) -> str:
        path = self.address.password_file
        if path is None:
            return ""
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise HistoryError(f"{path}: {error}", reason="auth", remedy=_REMEDIES["auth"]) from error

    def _unreached(self, error: Exception) -> HistoryError:
        text = str(error)[:200] or type(error).__name__
        encrypted = "SSL" in text or isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError)
        reason, what = "tls" if encrypted else "connect", text
        if isinstance(error, httpx.ConnectTimeout):
            reason, what = "connect", f"no connection within {CONNECT_TIMEOUT:g} s"
        elif isinstance(error, httpx.TimeoutException):
            reason, what = "timeout", "no answer in time"
        return HistoryError(f"{self.address.url}: {what}", reason=reason, remedy=_REMEDIES.get(reason, ""))

    def _refused(self, reply: httpx.Response) -> HistoryError | QueryError:
        text = " ".join(reply.text[:2000].split())[:300] or f"HTTP {reply.status_code}"
        try:
            code = int(reply.headers.get("x-clickhouse-exception-code", "0"))
        except ValueError:
            code = 0
        if code in _TOO_LONG:
            return QueryError(f"the search of the store took too long or found too much; {NARROWER} ({text})")
        reason = _REASONS.get(code) or {401: "auth", 403: "denied"}.get(reply.status_code, "server")
        return HistoryError(f"{self.address.url}: {text}", reason=reason, remedy=_REMEDIES.get(reason, ""))


def is_plain(url: str) -> bool:
    """Whether everything that is sent to ``url`` is readable on the way."""
    return urlsplit(url).scheme == "http"


def _written(value: Value) -> str:
    """A parameter as text: arrays in ClickHouse's own form."""
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return "[" + ",".join("'" + one.replace("\\", "\\\\").replace("'", "\\'") + "'" for one in value) + "]"
