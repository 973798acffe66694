"""Objects of the Kubernetes API, kept by a list and the watch that follows it.

list              the objects, and the version of the collection
watch from there  ADDED, MODIFIED and DELETED change an object; BOOKMARK only reports a newer version
the watch ends    it continues from the last version
410 Gone          the API server forgot that version: list again
any other error   a pause, doubled up to 30 s, then the watch continues; what is known stays
404, 401, 403     asked again every 5 minutes: the resource may be installed, or a right granted
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

from flowmap.control.clock import Clock
from flowmap.control.flink.replies import json_of
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import AuthError, ControlError, ProtocolError, Transient

LIST_TIMEOUT = 10.0
WATCH_FOR = 300
"""Seconds after which the API server is asked to end a watch."""
SILENCE = 60.0 + WATCH_FOR
"""Seconds without any line after which a watch counts as broken: bookmarks come every minute."""
LINE_LIMIT = 4 << 20
"""Bytes of one object."""
OBJECTS = 20_000
"""Objects that are kept of one resource."""
FIRST_PAUSE, LONGEST_PAUSE, ABSENT_PAUSE = 1.0, 30.0, 300.0

Object = dict[str, Any]


class Api(Protocol):
    """Exchanges with the API server."""

    async def get(self, path: str) -> HttpReply:
        """One answer; ControlError if there is none."""

    def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of an answer without an end. ControlError, with the status of an answer that is not 200."""

    async def aclose(self) -> None: ...


class _Gone(Exception):
    """The API server has forgotten the version."""


class Resource:
    """The objects of one path."""

    def __init__(
        self, api: Api, path: str, query: Mapping[str, str], *, changed: Callable[[], None], clock: Clock
    ) -> None:
        """``query``: of both the list and the watch. ``changed`` is called after every change."""
        self.objects: dict[str, Object] = {}
        """By namespace and name."""
        self.synced = False
        """Whether a list was ever read."""
        self.error: ControlError | None = None
        """Why the objects are not kept up to date now."""
        self.left_out = 0
        """Objects beyond :data:`OBJECTS`."""
        self._version = ""
        """Of the collection, as of the last list or event."""
        self._api = api
        self._path = path
        self._query = dict(query)
        self._changed = changed
        self._clock = clock

    async def run(self) -> None:
        """Keep the objects for ever."""
        pause = FIRST_PAUSE
        while True:
            began = self._clock.monotonic()
            try:
                if not self._version:
                    await self._list()
                self._set(None)
                await self._watch()
                pause = FIRST_PAUSE
            except _Gone:
                self._version = ""
                continue
            except ControlError as error:
                self._set(error)
                if isinstance(error, AuthError) or error.status == 404:
                    self._version, pause = "", ABSENT_PAUSE
                await self._clock.sleep(pause * (0.5 + self._clock.chance() / 2))
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self._clock.monotonic() - began < FIRST_PAUSE:  # a server that ends every watch at once
                await self._clock.sleep(FIRST_PAUSE)

    async def read(self) -> None:
        """Read the list once."""
        await self._list()

    async def _list(self) -> None:
        # Version 0: from the API server's cache.
        reply = await self._api.get(f"{self._path}?{urlencode({**self._query, 'resourceVersion': '0'})}")
        answer = json_of(reply.status, reply.body, f"the Kubernetes API at /{self._path}")
        items = answer.get("items") if isinstance(answer, Mapping) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ProtocolError("the Kubernetes API did not answer with a list")
        self.objects, self.synced, self.left_out = {}, True, 0
        for item in items:
            self._keep(item)
        self._changed()
        metadata = answer.get("metadata") if isinstance(answer, Mapping) else None
        self._version = str(metadata.get("resourceVersion", "")) if isinstance(metadata, Mapping) else ""

    async def _watch(self) -> None:
        """Follow the changes after the last version until the server ends the watch."""
        more = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_FOR)}
        path = f"{self._path}?{urlencode({**self._query, **more, 'resourceVersion': self._version})}"
        try:
            async for line in self._api.lines(path):
                self._apply(line)
        except ControlError as error:
            if error.status == 410:
                raise _Gone from error
            raise

    def _apply(self, line: bytes) -> None:
        """Apply one event."""
        try:
            event = json.loads(line)
            kind, one = str(event["type"]), event["object"]
            metadata = one.get("metadata", {})
            version = str(metadata.get("resourceVersion", ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProtocolError("a watch of the Kubernetes API has a line that is no event") from error
        if kind == "ERROR":
            if one.get("code") == 410:
                raise _Gone
            raise Transient(f"the Kubernetes API ended a watch: {str(one.get('message'))[:200]}", reason="server")
        if kind == "DELETED":
            self.objects.pop(_key(one), None)
        elif kind in ("ADDED", "MODIFIED"):
            self._keep(one)
        if kind != "BOOKMARK":
            self._changed()
        self._version = version or self._version

    def _keep(self, one: Object) -> None:
        key = _key(one)
        if key not in self.objects and len(self.objects) >= OBJECTS:
            self.left_out += 1
            return
        self.objects[key] = one

    def _set(self, error: ControlError | None) -> None:
        if (error is None) != (self.error is None):
            self._changed()
        self.error = error


def _key(one: Object) -> str:
    metadata = one.get("metadata") or {}
    return f"{metadata.get('namespace')}/{metadata.get('name')}"


async def run_all(resources: list[Resource]) -> None:
    """Keep several resources."""
    await asyncio.gather(*(resource.run() for resource in resources))
