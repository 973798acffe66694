"""A small HTTP proxy on loopback that opens tunnels (CONNECT), for tests."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """What a proxy does, and what it was asked."""

    login: str | None = None
    """``user:password`` without which it answers 407."""
    refuses: str | None = None
    """Status line of an answer to every request."""
    silent: bool = False
    """Whether it opens tunnels in which nothing happens."""
    hosts: dict[str, int] = field(default_factory=dict)
    """Ports of loopback by the name that a client knows; others are taken as they are."""
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """Targets of requests."""
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.decode("latin-1").split(" ", 2)
            self.heads.append(head)
            self.asked.append(target)
            wanted = b"" if self.login is None else b"Basic " + base64.b64encode(self.login.encode())
            status = self.refuses or ("200 Connection established" if method == "CONNECT" else "405 Only CONNECT")
            if wanted not in head:
                status = "407 Proxy Authentication Required"
            writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
            if status.startswith("200"):
                await self._tunnel(target, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client hung up, as it may
        finally:
            writer.close()

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            await reader.read()
            return
        host, _, port = target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.hosts.get(host, int(port)))
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextmanager
def running(proxy: ConnectProxy, tls: ssl.SSLContext | None = None) -> Iterator[ConnectProxy]:
    """Serve ``proxy`` on a free port of loopback from a thread of its own."""
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
        proxy.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run() -> None:
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
