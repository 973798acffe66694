"""/metrics: requests at the same time share one build, in a worker thread; the page is sent in pieces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flowmap.export.exposition import Exposition, compress
from flowmap.export.negotiation import Format, accepts_gzip, choose_format
from flowmap.export.snapshot import Snapshot
from flowmap.system.workers import Workers

THREADS = 2
"""Threads that build pages."""
_PIECE = 256 * 1024


class Pages:
    """Builds pages. A request during a build waits for that build."""

    def __init__(self, snapshot: Callable[[], Snapshot], exposition: Exposition, workers: Workers) -> None:
        """``workers`` build pages only: queries use other threads, so they never delay a scrape."""
        self._snapshot = snapshot
        self._exposition = exposition
        self._workers = workers
        self._building: dict[tuple[Format, bool], asyncio.Task[bytes]] = {}

    async def answer(self, request: Request) -> Response:
        """The page in the format and encoding that the client asks for."""
        form = choose_format(request.headers.get("accept"))
        gzipped = accepts_gzip(request.headers.get("accept-encoding"))
        headers = {"content-type": form.value, "vary": "Accept, Accept-Encoding"}
        if gzipped:
            headers["content-encoding"] = "gzip"
        return PieceResponse(await self.page(form, gzipped=gzipped), headers=headers)

    async def page(self, form: Format, *, gzipped: bool) -> bytes:
        """The page, from the snapshot at the start of the build."""
        key = (form, gzipped)
        task = self._building.get(key)
        if task is None:
            task = asyncio.create_task(self._build(form, gzipped))
            self._building[key] = task
            task.add_done_callback(lambda _: self._building.pop(key))
        # Shielded: a client that closes must not cancel the page of the others.
        return await asyncio.shield(task)

    async def _build(self, form: Format, gzipped: bool) -> bytes:
        if gzipped:
            return await self._in_worker(compress, await self.page(form, gzipped=False))
        return await self._in_worker(self._timed, self._snapshot(), form)

    async def _in_worker(self, make: Callable[..., bytes], *arguments: object) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._workers, make, *arguments)

    def _timed(self, snapshot: Snapshot, form: Format) -> bytes:
        begun = time.monotonic()
        page = self._exposition.page(snapshot, form)
        self._exposition.metrics.set_exposition_seconds(time.monotonic() - begun)
        return page


class PieceResponse(Response):
    """Sends its body in pieces at the pace of the client, so that a slow client costs no copy of the page."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        if scope["method"] != "HEAD":
            for start in range(0, len(body), _PIECE):
                await send({"type": "http.response.body", "body": body[start : start + _PIECE], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
