"""The kinds of faults: each turns a right answer into another one.

:data:`KINDS` has a function for each kind. ``fault_book`` decides which requests meet a fault.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from flowmap.sandbox import rendering
from flowmap.sandbox.fault_book import Fault, Kind

CHUNK = 1 << 16


Good = Callable[[], rendering.Json]
"""Makes the answer without the fault."""


Disconnected = Callable[[], Awaitable[None]]
"""Waits until the client closes the connection."""


async def apply_fault(fault: Fault, good: Good, disconnected: Disconnected, *, request_id: str, host: str) -> Response:
    """The answer to a request that meets ``fault``."""
    return await KINDS[fault.kind](_Context(fault, good, disconnected, request_id, host))


class _Context:
    """The request and the fault, for a kind."""

    def __init__(self, fault: Fault, good: Good, disconnected: Disconnected, request_id: str, host: str) -> None:
        self.fault = fault
        self.good = good
        self.disconnected = disconnected
        self.request_id = request_id
        self.host = host

    def gateway(self, status: int, code: str) -> Response:
        fault = self.fault
        body = rendering.gateway_error(self.request_id, code=fault.code or code, message=fault.message, host=self.host)
        return json_response(body, status=fault.status or status, headers=fault.headers())

    def altered(self, **fields: Any) -> Response:
        return json_response({**self.good(), **fields})


def json_response(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``body`` as JSON, compact and in UTF-8."""
    # A lone surrogate has no UTF-8. Its escape by Python is also its escape in JSON: \ud800.
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
    return raw_response(content, status=status, headers=headers)


def raw_response(
    body: bytes, *, status: int = 200, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    return Response(body, status_code=status, headers=dict(headers or {}), media_type=kind)


async def _latency(context: _Context) -> Response:
    await asyncio.sleep(context.fault.seconds)
    return json_response(context.good())


async def _hang(context: _Context) -> Response:
    await context.disconnected()
    return raw_response(b"")


async def _drip(context: _Context) -> Response:
    body = json.dumps(context.good()).encode()

    async def drops() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(context.fault.seconds)

    return StreamingResponse(drops(), media_type="application/json")


async def _cut(context: _Context) -> Response:
    body = json.dumps(context.good()).encode()
    headers = {"content-length": str(len(body)), "connection": "close"}

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]

    return StreamingResponse(half(), headers=headers, media_type="application/json")


async def _oversized(context: _Context) -> Response:
    async def blanks() -> AsyncIterator[bytes]:
        for _ in range(context.fault.size // CHUNK + 1):
            yield b" " * CHUNK

    return StreamingResponse(blanks(), media_type="application/json")


async def _gzip_bomb(context: _Context) -> Response:
    async def bomb() -> AsyncIterator[bytes]:
        packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
        for _ in range(context.fault.size // CHUNK + 1):
            yield packer.compress(b" " * CHUNK)
        yield packer.flush()

    return StreamingResponse(bomb(), headers={"content-encoding": "gzip"}, media_type="application/json")


async def _gzip(context: _Context) -> Response:
    body = gzip.compress(json.dumps(context.good()).encode())
    return raw_response(body, headers={"content-encoding": "gzip"})


async def _error(context: _Context) -> Response:
    status = context.fault.status or 503
    page = f"<html><head><title>{status}</title></head><body><h1>{context.fault.message}</h1></body></html>"
    return raw_response(page.encode(), status=status, kind="text/html", headers=context.fault.headers())


async def _business(context: _Context) -> Response:
    fault = context.fault
    body = rendering.failure(
        context.request_id, http_code=fault.status or 400, code=fault.code or "990301", message=fault.message
    )
    return json_response(body)


async def _redirect(context: _Context) -> Response:
    return raw_response(b"", status=context.fault.status or 302, headers={"location": context.fault.location})


async def _bad_element(context: _Context) -> Response:
    body = context.good()
    return json_response({**body, "data": [{"name": "no id"}, 7, None, *body.get("data", [])]})


async def _wrong_types(context: _Context) -> Response:
    body = context.good()
    broken = [{name: [value] for name, value in item.items()} for item in body.get("data", [])]
    return json_response({**body, "httpCode": "OK", "requestId": 7, "data": broken})


def _fixed(body: bytes) -> Callable[[_Context], Awaitable[Response]]:
    async def answer(context: _Context) -> Response:
        return raw_response(body, status=context.fault.status or 200)

    return answer


async def _throttle(context: _Context) -> Response:
    return context.gateway(400, "Throttling.User")


async def _gateway(context: _Context) -> Response:
    return context.gateway(403, "Forbidden.RAM")


async def _no_success(context: _Context) -> Response:
    body = context.good()
    return json_response({name: value for name, value in body.items() if name != "success"})


async def _bom(context: _Context) -> Response:
    return raw_response(b"\xef\xbb\xbf" + json.dumps(context.good()).encode())


async def _clock(context: _Context) -> Response:
    return json_response(context.good())


async def _no_data(context: _Context) -> Response:
    return context.altered(data=None)


async def _data_object(context: _Context) -> Response:
    return context.altered(data={})


async def _empty_list(context: _Context) -> Response:
    return context.altered(data=[])


KINDS: Mapping[Kind, Callable[[_Context], Awaitable[Response]]] = {
    "bad_element": _bad_element,
    "bom": _bom,
    "business": _business,
    "clock": _clock,
    "cut": _cut,
    "data_object": _data_object,
    "drip": _drip,
    "empty": _fixed(b""),
    "empty_list": _empty_list,
    "error": _error,
    "gateway": _gateway,
    "gzip": _gzip,
    "gzip_bomb": _gzip_bomb,
    "hang": _hang,
    "json_list": _fixed(b"[]"),
    "json_null": _fixed(b"null"),
    "latency": _latency,
    "malformed": _fixed(b'{"requestId": "x", "success": tr'),
    "no_data": _no_data,
    "no_success": _no_success,
    "oversized": _oversized,
    "redirect": _redirect,
    "throttle": _throttle,
    "wrong_types": _wrong_types,
}
"""``bom``, ``clock``, ``gzip`` and ``latency`` are right answers in an unusual form. ``empty_list`` is a wrong answer.
The others are no valid answers."""
