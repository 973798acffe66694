"""Faults the sandbox commits when it is told to.

Each kind is a function from the answer that would have been given to the one that is; the table :data:`KINDS` names
them all. ``fault_book`` says which requests meet one.
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
"""Makes the answer that would be given without the fault."""


HungUp = Callable[[], Awaitable[None]]
"""Waits until the client hangs up."""


async def commit(fault: Fault, good: Good, hung_up: HungUp, *, request_id: str, host: str) -> Response:
    """The answer of a request that meets ``fault``."""
    return await KINDS[fault.kind](_Scene(fault, good, hung_up, request_id, host))


class _Scene:
    """What a kind has to work with."""

    def __init__(self, fault: Fault, good: Good, hung_up: HungUp, request_id: str, host: str) -> None:
        self.fault = fault
        self.good = good
        self.hung_up = hung_up
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
    # Half of a surrogate pair has no UTF-8. Python's way to write it anyway is JSON's: \ud800.
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
    return raw_response(content, status=status, headers=headers)


def raw_response(
    body: bytes, *, status: int = 200, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    return Response(body, status_code=status, headers=dict(headers or {}), media_type=kind)


async def _latency(scene: _Scene) -> Response:
    await asyncio.sleep(scene.fault.seconds)
    return json_response(scene.good())


async def _hang(scene: _Scene) -> Response:
    await scene.hung_up()
    return raw_response(b"")


async def _drip(scene: _Scene) -> Response:
    body = json.dumps(scene.good()).encode()

    async def drops() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(scene.fault.seconds)

    return StreamingResponse(drops(), media_type="application/json")


async def _cut(scene: _Scene) -> Response:
    body = json.dumps(scene.good()).encode()
    headers = {"content-length": str(len(body)), "connection": "close"}

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]

    return StreamingResponse(half(), headers=headers, media_type="application/json")


async def _oversized(scene: _Scene) -> Response:
    async def blanks() -> AsyncIterator[bytes]:
        for _ in range(scene.fault.size // CHUNK + 1):
            yield b" " * CHUNK

    return StreamingResponse(blanks(), media_type="application/json")


async def _gzip_bomb(scene: _Scene) -> Response:
    async def bomb() -> AsyncIterator[bytes]:
        packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
        for _ in range(scene.fault.size // CHUNK + 1):
            yield packer.compress(b" " * CHUNK)
        yield packer.flush()

    return StreamingResponse(bomb(), headers={"content-encoding": "gzip"}, media_type="application/json")


async def _gzip(scene: _Scene) -> Response:
    body = gzip.compress(json.dumps(scene.good()).encode())
    return raw_response(body, headers={"content-encoding": "gzip"})


async def _error(scene: _Scene) -> Response:
    status = scene.fault.status or 503
    page = f"<html><head><title>{status}</title></head><body><h1>{scene.fault.message}</h1></body></html>"
    return raw_response(page.encode(), status=status, kind="text/html", headers=scene.fault.headers())


async def _business(scene: _Scene) -> Response:
    fault = scene.fault
    body = rendering.failure(
        scene.request_id, http_code=fault.status or 400, code=fault.code or "990301", message=fault.message
    )
    return json_response(body)


async def _redirect(scene: _Scene) -> Response:
    return raw_response(b"", status=scene.fault.status or 302, headers={"location": scene.fault.location})


async def _bad_element(scene: _Scene) -> Response:
    body = scene.good()
    return json_response({**body, "data": [{"name": "no id"}, 7, None, *body.get("data", [])]})


async def _wrong_types(scene: _Scene) -> Response:
    body = scene.good()
    broken = [{name: [value] for name, value in item.items()} for item in body.get("data", [])]
    return json_response({**body, "httpCode": "OK", "requestId": 7, "data": broken})


def _fixed(body: bytes) -> Callable[[_Scene], Awaitable[Response]]:
    async def answer(scene: _Scene) -> Response:
        return raw_response(body, status=scene.fault.status or 200)

    return answer


async def _throttle(scene: _Scene) -> Response:
    return scene.gateway(400, "Throttling.User")


async def _gateway(scene: _Scene) -> Response:
    return scene.gateway(403, "Forbidden.RAM")


async def _no_success(scene: _Scene) -> Response:
    body = scene.good()
    return json_response({name: value for name, value in body.items() if name != "success"})


async def _bom(scene: _Scene) -> Response:
    return raw_response(b"\xef\xbb\xbf" + json.dumps(scene.good()).encode())


async def _clock(scene: _Scene) -> Response:
    return json_response(scene.good())


async def _no_data(scene: _Scene) -> Response:
    return scene.altered(data=None)


async def _data_object(scene: _Scene) -> Response:
    return scene.altered(data={})


async def _empty_list(scene: _Scene) -> Response:
    return scene.altered(data=[])


KINDS: Mapping[Kind, Callable[[_Scene], Awaitable[Response]]] = {
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
"""``bom``, ``clock``, ``gzip`` and ``latency`` are right answers in an unusual way, ``empty_list`` is a lie; the
others are no answers."""
