"""The embedded control plane: answers signed requests from a catalog, over plain HTTP on loopback.

Like the real one it refuses unsigned requests, stale dates, used nonces, and unknown workspaces and namespaces. Paths
below ``/_sandbox/`` control it. They need no signature, because only this machine can reach them:

- ``PUT /_sandbox/catalog``: replace the catalog (JSON, see ``catalog_file``); ``GET`` returns it
- ``PUT /_sandbox/faults``: replace the faults (JSON, see ``fault_book``); ``GET`` returns them and the kinds
- ``GET /_sandbox/requests``: requests by operation and shape, refusals by code, faults by kind
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowmap.catalog_file.catalog import SIZE_LIMIT, CatalogFile, example_catalog, load_catalog, parse_catalog
from flowmap.catalog_file.matching import Index
from flowmap.errors import ConfigError
from flowmap.sandbox import operations, rendering
from flowmap.sandbox.fault_book import DESCRIPTIONS, Fault, FaultBook, parse_faults
from flowmap.sandbox.faults import Disconnected, apply_fault, json_response
from flowmap.sandbox.operations import SandboxAnswer, SandboxRequest
from flowmap.sandbox.verify import DEFAULT_KEYS, Keys, Refused, SignedRequest, Verifier
from flowmap.serve.server.request_target import OriginForm

RECORDED = 1000
"""Requests kept for tests."""

REQUEST_LIMIT = 1 << 16
"""Largest body of an API request in bytes. Its operations have no body."""

log = logging.getLogger(__name__)

Passed = tuple[str, SandboxAnswer]
"""A request that passed the gateway: its action and its answer."""


class SandboxControlPlane:
    """A catalog, the active faults and the recorded requests. ``app`` is the ASGI application.

    The setters may be called from any thread: each replaces a reference that a request reads once.
    """

    def __init__(
        self,
        catalog: CatalogFile | Mapping[str, Any] | None = None,
        *,
        catalog_path: Path | None = None,
        keys: Keys = DEFAULT_KEYS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Answer from ``catalog``, from the file at ``catalog_path``, or from an example.

        A changed file is reloaded. ConfigError for an invalid catalog.
        """
        self._clock = clock
        self._verifier = Verifier(keys)
        self._path = catalog_path
        self._stamp: tuple[int, ...] = ()
        self._index = Index(example_catalog() if catalog is None else parse_catalog(catalog))
        if catalog_path is not None:
            self._stamp = _stamp(catalog_path)
            self._index = Index(load_catalog(catalog_path))
        self._faults = FaultBook()
        self.catalog_error: str | None = None
        """The error in a changed catalog file, while the last valid catalog stays active."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """Valid requests, by operation and shape."""
        self.refused: Counter[str] = Counter()
        """Requests refused, by code."""
        self.recorded: deque[SignedRequest] = deque(maxlen=RECORDED)
        """The latest requests, as received."""
        self.app = Starlette(
            routes=[
                Route("/_sandbox/catalog", self._admin_catalog, methods=["GET", "PUT"]),
                Route("/_sandbox/faults", self._admin_faults, methods=["GET", "PUT"]),
                Route("/_sandbox/requests", self._admin_requests, methods=["GET"]),
                Route("/{path:path}", self._serve, methods=["GET", "POST", "PUT", "DELETE"]),
            ],
            middleware=[
                Middleware(OriginForm, refuse=lambda status, detail: json_response({"error": detail}, status=status))
            ],
        )

    @property
    def catalog(self) -> CatalogFile:
        return self._index.catalog

    def set_catalog(self, catalog: CatalogFile | Mapping[str, Any]) -> None:
        """Replace the catalog; ConfigError for an invalid one."""
        self._index = Index(parse_catalog(catalog))

    def set_faults(self, faults: Sequence[Fault | Mapping[str, Any]]) -> None:
        """Replace the faults; ConfigError for an invalid one."""
        self._faults.replace(parse_faults(list(faults)))

    @property
    def requests(self) -> dict[str, Any]:
        """The content of ``GET /_sandbox/requests``."""
        by_operation: dict[str, dict[str, int]] = {}
        for (action, shape), count in self.counts.copy().items():
            by_operation.setdefault(action, {})[shape or "all"] = count
        return {
            "total": sum(self.counts.copy().values()),
            "byOperation": by_operation,
            "refused": dict(self.refused),
            "faults": dict(self._faults.applied),
            "catalogError": self.catalog_error,
        }

    async def _serve(self, request: Request) -> Response:
        """Answer one request of the API."""
        self._reload()
        now = self._clock() + self._faults.clock_offset
        request_id = secrets.token_hex(16).upper()
        received = await _received(request)
        if received is None:
            return json_response({"error": f"the body is over {REQUEST_LIMIT} bytes"}, status=413)
        self.recorded.append(received)
        response = await self._answer(received, request_id, now, lambda: _disconnected(request))
        response.headers["x-acs-request-id"] = request_id
        response.headers["date"] = formatdate(now, usegmt=True)
        return response

    async def _answer(
        self, received: SignedRequest, request_id: str, now: float, disconnected: Disconnected
    ) -> Response:
        host = received.headers.get("host", "")
        legacy = received.headers.get("x-acs-version") == operations.BLINK_VERSION
        passed = self._legacy_gateway(received, now) if legacy else self._gateway(received, now)
        if isinstance(passed, Refused):
            return self._refuse(passed, request_id, host)
        action, answered = passed
        self.counts[action, answered.shape] += 1
        fault = self._faults.match(action, answered.shape)
        make = answered.answer
        if isinstance(make, Refused):
            return self._refuse(make, request_id, host)
        if fault is not None:
            return await apply_fault(fault, lambda: make(request_id), disconnected, request_id=request_id, host=host)
        return json_response(make(request_id))

    def _refuse(self, refused: Refused, request_id: str, host: str) -> Response:
        self.refused[refused.code] += 1
        body = rendering.gateway_error(request_id, code=refused.code, message=refused.message, host=host)
        return json_response(body, status=refused.status)

    def _gateway(self, received: SignedRequest, now: float) -> Passed | Refused:
        """The action and its answer, or the refusal."""
        refused = self._verifier.check(received, now=now)
        if refused is not None:
            return refused
        headers = received.headers
        action = headers["x-acs-action"]
        namespace = operations.route(action, received.path)
        if headers["x-acs-version"] != operations.VERSION or namespace is None or received.method != "GET":
            return _no_such_api(received)
        if not headers.get("workspace"):
            return Refused(400, "MissingWorkspace", "workspace is mandatory for this action.")
        answered = operations.answer(self._index, SandboxRequest(action, namespace, dict(received.parameters), now))
        unknown = self._unknown(headers["workspace"], namespace)
        if unknown is not None and not isinstance(answered.answer, Refused):
            answered = answered._replace(answer=unknown)
        return action, answered

    def _legacy_gateway(self, received: SignedRequest, now: float) -> Passed | Refused:
        refused = self._verifier.check_legacy(received, now=now)
        if refused is not None:
            return refused
        action = received.headers["x-acs-action"]
        found = operations.route_blink(action, received.path)
        if found is None or received.method != "GET":
            return _no_such_api(received)
        project, package = found
        asked = SandboxRequest(action, project, dict(received.parameters), now)
        return action, operations.answer_blink(self._index, asked, package)

    def _unknown(self, workspace: str, namespace: str) -> Callable[[str], rendering.Json] | None:
        """The business error for an unknown workspace or namespace; None if both are known."""
        if workspace == self.catalog.workspace and namespace in self.catalog.namespaces:
            return None
        what = f"workspace {workspace!r}, namespace {namespace!r}: not found"
        return lambda request_id: rendering.failure(request_id, http_code=404, code="NotFound", message=what)

    def _reload(self) -> None:
        """Reload the catalog file if it changed."""
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._index = Index(load_catalog(self._path))
            self.catalog_error = None
        except ConfigError as error:
            if str(error) != self.catalog_error:
                log.warning("catalog not reloaded, keeping the last one: %s", error)
            self.catalog_error = str(error)

    async def _admin_catalog(self, request: Request) -> Response:
        if request.method == "GET":
            return json_response(self.catalog.model_dump(mode="json", by_alias=True))
        return await self._put(request, self.set_catalog)

    async def _admin_faults(self, request: Request) -> Response:
        if request.method == "GET":
            active = [fault.model_dump(by_alias=True, exclude_defaults=True) for fault in self._faults.active]
            return json_response({"active": active, "kinds": DESCRIPTIONS})
        return await self._put(request, self.set_faults)

    async def _admin_requests(self, request: Request) -> Response:
        return json_response(self.requests)

    async def _put(self, request: Request, use: Callable[[Any], None]) -> Response:
        body = await _body(request, SIZE_LIMIT)
        if body is None:
            return json_response({"error": f"the body is over {SIZE_LIMIT} bytes"}, status=413)
        try:
            use(json.loads(body))
        except (ConfigError, ValueError, RecursionError) as error:
            return json_response({"error": str(error)}, status=400)
        return json_response({"ok": True})


def _no_such_api(received: SignedRequest) -> Refused:
    action = received.headers["x-acs-action"]
    return Refused(404, "InvalidApi.NotFound", f"{received.method} {received.path} is not a path of {action}")


async def _body(request: Request, limit: int) -> bytes | None:
    """The body of a request; None for more than ``limit`` bytes."""
    parts, left = [], limit
    async for part in request.stream():
        parts.append(part)
        left -= len(part)
        if left < 0:
            return None
    return b"".join(parts)


async def _received(request: Request) -> SignedRequest | None:
    body = await _body(request, REQUEST_LIMIT)
    if body is None:
        return None
    return SignedRequest(
        method=request.method,
        path=request.scope["raw_path"].decode("latin-1"),
        query=request.scope["query_string"].decode("latin-1"),
        header_list=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw),
        body=body,
    )


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the catalog: {error.strerror}") from error
    return (status.st_mtime_ns, status.st_size, status.st_ino)
