"""The forms of a request target (RFC 9112, section 3.2), converted to the origin form that routes match."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_SCHEMES = (b"http", b"https")


class Refused(Exception):
    """A target that is rejected; ``status`` is the HTTP status, the text is one sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Absolute(NamedTuple):
    """A target that names its host."""

    secure: bool
    authority: bytes
    path: bytes


class OriginForm:
    """ASGI middleware: ``http://host/path`` becomes ``/path`` with ``host`` as the Host header, other forms an error.

    The authority of the target replaces the Host header (RFC 9112, section 3.2.2), also for checks of the host.
    """

    def __init__(self, app: ASGIApp, *, refuse: Callable[[int, str], ASGIApp]) -> None:
        """``refuse`` makes the answer of a status and a sentence: 400, 405 or 421."""
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                scope = _origin_form(scope)
            except Refused as refused:
                app = self._refuse(refused.status, str(refused))
        await app(scope, receive, send)


def _origin_form(scope: Scope) -> Scope:
    target: bytes = scope.get("raw_path") or scope["path"].encode()
    if scope["method"] == "CONNECT" or (scope["method"], target) == ("OPTIONS", b"*"):
        raise Refused(405, f"{scope['method']} is not answered here.")
    if b"#" in target or b"#" in scope["query_string"]:
        raise Refused(400, "The target of a request has no fragment (#).")
    if target.startswith(b"/"):
        return scope
    absolute = read_absolute(target)
    if absolute.secure and scope["scheme"] != "https":
        raise Refused(421, "This connection has no TLS, and the target says https.")
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "path": unquote(absolute.path.decode("ascii")),
        "raw_path": absolute.path,
        "headers": [(b"host", absolute.authority), *others],
    }


def read_absolute(target: bytes) -> Absolute:
    """The parts of a target in absolute form without its query; :class:`Refused` if it has another form."""
    scheme, separator, rest = target.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    scheme = scheme.lower()
    if not separator or scheme not in _SCHEMES:
        raise Refused(400, "The target of a request is a path, or begins with http:// or https://.")
    if not authority or authority.startswith(b":") or b"@" in authority:  # RFC 9110, sections 4.2.1 and 4.2.4
        raise Refused(400, "The target of a request names a host, and no user.")
    return Absolute(scheme == b"https", authority, b"/" + path)
