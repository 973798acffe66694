"""HTTP with httpx: sends a prepared request and reads the complete answer within limits.

It follows no redirects, keeps no cookies and ignores the environment. It accepts gzip only and inflates it here, so
that the inflated size is limited, too. Every error of httpx becomes an error of flowmap.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from flowmap.control.http.own_calls import OWN_CALLS
from flowmap.control.http.route import DIRECT, Proxy, Route
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import AuthError, ControlError, ProtocolError, Transient
from flowmap.system.names import is_being_looked_up, lookup_problem, unanswered

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
    """Keeps a few connections to each endpoint. Belongs to the event loop that first uses it."""

    def __init__(self, route: Route = DIRECT, *, wire_limit: int = WIRE_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        self._route = route
        self._wire_limit = wire_limit
        self._body_limit = body_limit
        self._client: httpx.AsyncClient | None = None
        self._busy: Counter[httpx.AsyncClient] = Counter()
        """Exchanges under way."""
        self._retired: list[httpx.AsyncClient] = []
        """Clients without further exchanges, to be closed when their last one ends."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply:
        """One exchange in at most ``timeout`` seconds; Transient or ProtocolError without a complete answer."""
        client = self._client or self._open()
        request = client.build_request(
            method, url, headers={**headers, "accept-encoding": "gzip"}, extensions={"trace": OWN_CALLS.trace}
        )
        proxy = self._route.proxy_to(request.url.scheme, request.url.host)
        self._busy[client] += 1
        try:
            async with asyncio.timeout(timeout):
                await self._close_retired()
                return await self._exchange(client, request)
        except TimeoutError as error:
            if proxy is not None and client is self._client:
                self._retire()  # httpcore never frees the place of a tunnel that was cancelled during its setup
            raise _late(request.url.host, proxy, timeout) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _translate(error, request.url.host, proxy) from error
        finally:
            self._busy -= Counter((client,))
            # httpx attaches the request to its errors, and errors may be printed.
            request.headers.clear()
            request.url = request.url.copy_with(raw_path=b"/")

    async def lines(self, url: str, headers: Mapping[str, str], *, silence: float, limit: int) -> AsyncIterator[bytes]:
        """The lines of an answer without an end of its own, without empty ones, until the server closes it.

        ``silence``: seconds between two parts of it at most; ``limit``: bytes of a line. Transient if it breaks;
        AuthError for 401 and 403, otherwise ProtocolError with the status of an answer that is not 200.
        """
        client = self._client or self._open()
        request = client.build_request("GET", url, headers={**headers, "accept-encoding": "identity"})
        host, proxy = request.url.host, self._route.proxy_to(request.url.scheme, request.url.host)
        try:
            async with asyncio.timeout(silence):
                response = await client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    raise _refused(host, response.status_code)
                chunks, rest = aiter(response.aiter_raw()), b""
                while True:
                    async with asyncio.timeout(silence):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    *whole, rest = (rest + chunk).split(b"\n")
                    if max(map(len, (*whole, rest))) > limit:
                        raise ProtocolError(f"a line of {host} is over {limit} bytes")
                    for line in filter(None, whole):
                        yield line
            finally:
                await response.aclose()
        except TimeoutError as error:
            raise Transient(f"{host} sent nothing for {silence:g} s", reason="timeout") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _translate(error, host, proxy) from error
        finally:
            request.headers.clear()

    def configure(self, route: Route) -> None:
        """Use another route from the next exchange on. Exchanges under way finish on their connections."""
        self._route = route
        self._retire()

    async def aclose(self) -> None:
        """Close the connections. The next :meth:`send` opens new ones."""
        self._retire()
        self._busy.clear()  # exchanges under way are cut
        await self._close_retired()

    def _retire(self) -> None:
        if self._client is not None:
            self._retired.append(self._client)
            self._client = None

    async def _close_retired(self) -> None:
        for client in [client for client in self._retired if not self._busy[client]]:
            self._retired.remove(client)
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        quiet_http_loggers()
        self._client = httpx.AsyncClient(
            transport=_routed(self._route),
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
        )
        return self._client

    async def _exchange(self, client: httpx.AsyncClient, request: httpx.Request) -> HttpReply:
        response = await client.send(request, stream=True)
        try:
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            chunks = self._capped(response.aiter_raw(), self._wire_limit, "bytes as received")
            if encoding == "gzip":
                chunks = self._inflated(chunks)
            elif encoding != "identity":
                raise ProtocolError(
                    f"content-encoding {encoding[:40]!r} was not requested", status=response.status_code
                )
            body = b"".join([chunk async for chunk in chunks])
        finally:
            await response.aclose()
        return HttpReply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)

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
        if not inflater.complete:
            raise ProtocolError("the answer ends inside its gzip stream", reason="malformed")


class _Routed(httpx.AsyncBaseTransport):
    """Sends each request directly or through the proxy."""

    def __init__(self, route: Route, direct: httpx.AsyncBaseTransport, proxied: httpx.AsyncBaseTransport) -> None:
        self._route = route
        self._direct = direct
        self._proxied = proxied

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = self._route.proxy_to(request.url.scheme, request.url.host)
        return await (self._proxied if proxy else self._direct).handle_async_request(request)

    async def aclose(self) -> None:
        await self._direct.aclose()
        await self._proxied.aclose()


def _routed(route: Route) -> httpx.AsyncBaseTransport:
    tls = route.tls or httpx.create_ssl_context(trust_env=False)
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    direct = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)
    proxy = route.proxy
    if proxy is None:
        return direct
    login = None if proxy.user is None else (proxy.user, proxy.password or "")
    over = httpx.Proxy(proxy.url, auth=login, ssl_context=tls if proxy.scheme == "https" else None)
    return _Routed(route, direct, httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits, proxy=over))


class _Inflater:
    """Inflates a gzip stream of any number of members, up to a limit of bytes and of members."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._members = 0
        self._next_member()

    @property
    def complete(self) -> bool:
        """Whether the last member has ended."""
        return self._member.eof

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """The content that ``data`` adds; zlib.error if it is not gzip, ProtocolError over a limit."""
        while data:
            if self._member.eof:
                self._next_member()
            # One byte more than the limit distinguishes "full" from "over".
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


def _late(host: str, proxy: Proxy | None, seconds: float) -> ControlError:
    """The error of an exchange with ``host`` that took longer than ``seconds``."""
    if is_being_looked_up(proxy.host if proxy else host):
        return Transient(f"cannot resolve {_peer(host, proxy)}: {unanswered(seconds)}", reason="dns")
    return Transient(f"no complete answer within {seconds:.1f} s{_through(proxy)}", reason="timeout")


def _refused(host: str, status: int) -> ControlError:
    kind = AuthError if status in (401, 403) else Transient if status >= 500 or status == 429 else ProtocolError
    return kind(f"{host} answered HTTP {status}", status=status)


def _translate(error: Exception, host: str, proxy: Proxy | None) -> ControlError:
    text = str(error)[:200] or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return _late(host, proxy, CONNECT_TIMEOUT)  # the only timeout that httpx applies
    if isinstance(error, httpx.ProxyError):
        return Transient(f"{_peer(host, proxy)} refused the connection to {host}: {text}", reason="proxy")
    if isinstance(error, httpx.ConnectError):
        return _not_connected(error, text, host, proxy)
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return Transient(f"the connection broke{_through(proxy)}: {text}")
    return ProtocolError(f"the request could not be sent: {text}")


def _not_connected(error: Exception, text: str, host: str, proxy: Proxy | None) -> ControlError:
    if _caused_by(error, ssl.SSLError):
        return Transient(f"TLS failed{_through(proxy)}: {text}", reason="tls")
    problem = lookup_problem(error)
    if problem:
        return Transient(f"cannot resolve {_peer(host, proxy)}: {problem}", reason="dns")
    return Transient(f"cannot connect to {_peer(host, proxy)}: {text}", reason="connect")


def _peer(host: str, proxy: Proxy | None) -> str:
    """The other side of the connection."""
    return f"the proxy {proxy}" if proxy else host


def _through(proxy: Proxy | None) -> str:
    return f" through the proxy {proxy}" if proxy else ""


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
