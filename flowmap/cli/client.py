"""Asking a running daemon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from flowmap.errors import QueryError

TIMEOUT = 10.0
"""Seconds to wait for an answer."""


class DaemonClient:
    """The JSON API of one daemon."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """``transport`` replaces the network in tests. QueryError if ``url`` is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise QueryError(f"{url!r} is not the URL of a daemon; write it like http://127.0.0.1:10817", field="url")
        self._url = url.rstrip("/")
        # The daemon is on this host or network: a proxy of the environment is not meant for it.
        self._client = httpx.Client(timeout=TIMEOUT, trust_env=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, parameters: Mapping[str, str | int | None] | None = None) -> dict[str, Any]:
        """The JSON object at ``/api/v1/<path>``; parameters that are None are left out. QueryError otherwise."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        return self._decode(self._ask(path, given))

    def find(self, path: str) -> dict[str, Any] | None:
        """As :meth:`get`, but None for what the daemon says it does not know."""
        response = self._ask(path, {})
        told = response.headers.get("content-type", "").startswith("application/problem+json")
        return None if told and response.status_code == 404 else self._decode(response)

    def _ask(self, path: str, parameters: Mapping[str, str | int]) -> httpx.Response:
        try:
            return self._client.get(f"{self._url}/api/v1/{path}", params=parameters)
        except httpx.ConnectError as error:
            raise QueryError(
                f"no daemon answers at {self._url}; start one with `flowmap run` or name it with --url"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise QueryError(f"{self._url}: {str(error) or type(error).__name__}") from error

    def _decode(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise QueryError(f"{self._url} answers {response.status_code} without JSON; is it flowmap?") from error
        if not isinstance(body, dict):
            raise QueryError(f"{self._url} answers {response.status_code} with something else; is it flowmap?")
        if response.status_code != 200:
            raise QueryError(_problem(body, response.status_code))
        return body


def _problem(body: Mapping[str, Any], status: int) -> str:
    """A problem (RFC 9457) in one line; its detail names the fields at fault."""
    return " ".join(str(body.get("detail") or body.get("title") or f"the daemon answers {status}").split())
