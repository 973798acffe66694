"""A JobManager's REST interface from recorded answers, as a transport; and a stand-in for the Kubernetes API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flowmap.control.http.route import Route
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import ControlError

DATA = Path(__file__).parents[2] / "data" / "flink"


def recorded(name: str) -> dict[str, Any]:
    """The answers of one recording, by path."""
    answers: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return answers


class FakeRest:
    """Answers from ``answers`` by path; a number is a status, an error is raised."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.sent: list[tuple[str, Mapping[str, str]]] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply:
        assert method == "GET"
        self.sent.append((url, headers))
        parts = urlsplit(url)
        answer = self.answers.get(url, self.answers.get(unquote(parts.path), 404))
        if isinstance(answer, ControlError):
            raise answer
        if isinstance(answer, int):
            return HttpReply(answer, {}, b"{}")
        return HttpReply(200, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def configure(self, route: Route) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        return


class FakeApi:
    """Lists from ``answers`` by path: objects, a body, or a status. A watch sends what :meth:`send` gives it."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self._version = 100
        self._watches: dict[str, asyncio.Queue[bytes | ControlError | None]] = {}
        self._waiting: set[str] = set()

    async def get(self, path: str) -> HttpReply:
        self.asked.append(path)
        answer = self.answers.get(path.partition("?")[0], 404)
        if isinstance(answer, int):
            return HttpReply(answer, {}, b"{}")
        if isinstance(answer, bytes):
            return HttpReply(200, {}, answer)
        body = {"metadata": {"resourceVersion": str(self._version)}, "items": answer}
        return HttpReply(200, {}, json.dumps(body).encode())

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        self.asked.append(path)
        path = path.partition("?")[0]
        while True:
            self._waiting.add(path)
            line = await self._queue(path).get()
            self._waiting.discard(path)
            if line is None:
                return
            if isinstance(line, ControlError):
                raise line
            yield line

    def is_silent(self, path: str) -> bool:
        """Whether everything that was sent is read, and the watch waits for more."""
        return path in self._waiting and self._queue(path).empty()

    def send(self, path: str, kind: str, one: Mapping[str, Any]) -> None:
        """Send an event to the watch of a path; each has the next version."""
        self._version += 1
        metadata = {**one.get("metadata", {}), "resourceVersion": str(self._version)}
        self.raw(path, json.dumps({"type": kind, "object": {**one, "metadata": metadata}}).encode())

    def raw(self, path: str, line: bytes | ControlError | None) -> None:
        """Send a line, an error, or the end of the watch."""
        self._queue(path).put_nowait(line)

    async def aclose(self) -> None:
        return

    def _queue(self, path: str) -> asyncio.Queue[bytes | ControlError | None]:
        return self._watches.setdefault(path, asyncio.Queue())
