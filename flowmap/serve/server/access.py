"""Access: who may scrape, query, and check the health."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from flowmap.config import Access
from flowmap.config.web import ANONYMOUS, LOOPBACK
from flowmap.serve.api.problem import problem
from flowmap.serve.server.passwords import PasswordCheck, Passwords

_CHALLENGE = {"www-authenticate": 'Basic realm="flowmap", charset="UTF-8"'}
_LONGEST_HEADER = 1024

Refused = Callable[[str], None]
"""Counts a refusal by its reason."""


class Guard:
    """ASGI middleware: 401 unauthenticated, 403 forbidden, 429 too many failures."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        passwords: Callable[[], Passwords | None],
        areas: Mapping[str, str],
        refused: Refused,
    ) -> None:
        """``passwords`` returns the current ones; None without users. ``areas``: the key of ``http.access`` for a
        path; every other path, also one that does not exist, is a query."""
        self._app = app
        self._access = access
        self._passwords = passwords
        self._areas = areas
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        """The answer that rejects the request; None if it is allowed."""
        allowed: tuple[str, ...] | None = getattr(self._access, self._areas.get(scope["path"], "query"))
        passwords = self._passwords()
        if allowed is None and passwords is None:
            return None
        address = (scope.get("client") or ("", 0))[0]
        if allowed is not None and (ANONYMOUS in allowed or (LOOPBACK in allowed and is_loopback(address))):
            return None
        if passwords is None:
            return self._no("forbidden", 403, "http.access does not allow this request.")
        login = read_login(Headers(scope=scope).getlist("authorization"))
        if login is None:
            return self._no("login", 401, "Give a user name and a password.")
        verdict = await passwords.check(*login, client_network(address))
        if verdict is PasswordCheck.BUSY:
            return self._no("login", 429, "Too many wrong passwords, or too many at once; try again later.")
        if verdict is PasswordCheck.WRONG:
            return self._no("login", 401, "The user name or the password is wrong.")
        if allowed is not None and login[0] not in allowed:
            return self._no("forbidden", 403, "http.access does not allow this user to make this request.")
        return None

    def _no(self, reason: str, status: int, detail: str) -> Response:
        self._refused(reason)
        headers = _CHALLENGE if status == 401 else {"retry-after": "5"} if status == 429 else None
        return problem(status, detail, headers=headers)


def read_login(headers: list[str]) -> tuple[str, str] | None:
    """User and password of the ``Authorization`` header (RFC 7617); None if it is missing, repeated or invalid."""
    if len(headers) != 1 or len(headers[0]) > _LONGEST_HEADER:
        return None
    scheme, _, token = headers[0].partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(token.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def is_loopback(address: str) -> bool:
    """Whether the address of a client is a loopback address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def client_network(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 in which an IPv6 client can choose addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4 or parsed.ipv4_mapped is not None:
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
