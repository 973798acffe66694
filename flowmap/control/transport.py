"""The one module that uses httpx: sends a prepared request, reads the answer whole within caps.

No redirects, no cookies, no proxies or certificates from the environment, no compression but gzip, which is undone
here so that the size *after* it is capped too. Every failure of httpx becomes one of ours.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from flowmap.control.refusals import Reply
from flowmap.errors import ControlError, ProtocolError, Transient

CONNECT_TIMEOUT = 5.0
"""Seconds for DNS, TCP and TLS of one attempt, as in the vendor's SDK."""

WIRE_LIMIT = 32 << 20
"""Bytes of a body as received."""

BODY_LIMIT = 64 << 20
"""Bytes of a body after inflation."""

MEMBER_LIMIT = 1000
"""Members of a gzip stream (RFC 1952, section 2.2): an empty one takes 20 bytes, so bytes alone do not bound them."""

CONNECTIONS = 8


class HttpTransport:
    """Keeps a few connections to the endpoints it is asked for. Belongs to the event loop that first uses it."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        wire_limit: int = WIRE_LIMIT,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        self._tls = tls
        self._wire_limit = wire_limit
        self._body_limit = body_limit
        self._client: httpx.AsyncClient | None = None

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> Reply:
        """One exchange in at most ``timeout`` seconds; Transient or ProtocolError if there is no whole answer."""
        client = self._client or self._open()
        request = client.build_request(method, url, headers={**headers, "accept-encoding": "gzip"})
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(client, request)
        except TimeoutError as error:
            raise Transient(f"no whole answer within {timeout:.1f} s", reason="timeout") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _translate(error) from error
        finally:
            # httpx hangs the request on its errors, and an error may be shown to anybody.
            request.headers.clear()
            request.url = request.url.copy_with(raw_path=b"/")

    async def aclose(self) -> None:
        """Close the connections. The next :meth:`send` opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        quiet_http_loggers()
        self._client = httpx.AsyncClient(
            verify=self._tls or True,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        )
        return self._client

    async def _exchange(self, client: httpx.AsyncClient, request: httpx.Request) -> Reply:
        response = await client.send(request, stream=True)
        try:
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            chunks = self._capped(response.aiter_raw(), self._wire_limit, "bytes as received")
            if encoding == "gzip":
                chunks = self._inflated(chunks)
            elif encoding != "identity":
                raise ProtocolError(
                    f"content-encoding {encoding[:40]!r} was not asked for", status=response.status_code
                )
            body = b"".join([chunk async for chunk in chunks])
        finally:
            await response.aclose()
        return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)

    async def _capped(self, chunks: AsyncIterator[bytes], limit: int, what: str) -> AsyncIterator[bytes]:
        total = 0
        async for chunk in chunks:
            total += len(chunk)
            if total > limit:
                raise ProtocolError(f"the answer is over {limit} {what}")
            yield chunk

    async def _inflated(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        inflater = _Inflater(self._body_limit)
        try:
            async for chunk in chunks:
                for part in inflater.inflate(chunk):
                    yield part
        except zlib.error as error:
            raise ProtocolError(f"the answer is not gzip: {error}", reason="malformed") from error
        if not inflater.whole:
            raise ProtocolError("the answer ends inside its gzip stream", reason="malformed")


class _Inflater:
    """Inflates a gzip stream of any number of members, up to a limit of bytes and of members."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._members = 0
        self._next_member()

    @property
    def whole(self) -> bool:
        """Whether the last member has ended."""
        return self._member.eof

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """The content that ``data`` adds; zlib.error where it is not gzip, ProtocolError over a limit."""
        while data:
            if self._member.eof:
                self._next_member()
            # One byte more than allowed tells "full" from "over" without making more.
            part = self._member.decompress(data, self._left + 1)
            self._left -= len(part)
            if self._left < 0:
                raise ProtocolError(f"the answer is over {self._limit} bytes after gzip")
            yield part
            data = self._member.unused_data

    def _next_member(self) -> None:
        self._members += 1
        if self._members > MEMBER_LIMIT:
            raise ProtocolError(f"the answer has over {MEMBER_LIMIT} gzip members")
        self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def quiet_http_loggers() -> None:
    """Keep httpx and httpcore from logging every request at INFO and its headers at DEBUG."""
    for name in ("httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)


def _translate(error: Exception) -> ControlError:
    text = str(error)[:200] or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return Transient(f"timed out: {text}", reason="timeout")
    if isinstance(error, httpx.ConnectError):
        if _caused_by(error, ssl.SSLError):
            return Transient(f"TLS failed: {text}", reason="tls")
        return Transient(f"cannot connect: {text}", reason="connect")
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return Transient(f"the connection broke: {text}")
    return ProtocolError(f"the request could not be sent: {text}")


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
