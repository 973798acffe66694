"""A JobManager's REST interface from recorded answers, as a transport."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
