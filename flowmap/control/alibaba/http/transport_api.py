"""The interface of an HTTP transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from flowmap.control.alibaba.http.refusals import HttpReply
from flowmap.control.alibaba.http.route import Route


class Transport(Protocol):
    """Sends one request and reads the complete answer, over the present route."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply: ...

    def configure(self, route: Route) -> None: ...

    async def aclose(self) -> None: ...
