"""Servers that the jobs of the tests talk to. They know from the data which job had which connection.

    servers.py STATE RATE ROLE=IP:PORT…      ROLE is src-NAME or dst-NAME

A src server sends RATE lines a second to each client, with the address at which it sees the client. A dst server notes
which job names arrive on which connection. STATE (JSON) lists every connection ever accepted, and is rewritten five
times a second. Ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from typing import Any

PAD = "x" * 80
LINE = re.compile(rb"job=([^|]*)\|src=([^|]*)\|")


def endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def shown(pair: tuple[Any, ...]) -> str:
    host = str(pair[0])
    return f"[{host}]:{pair[1]}" if ":" in host else f"{host}:{pair[1]}"


class Servers:
    def __init__(self, state: str, rate: float) -> None:
        self.state, self.rate, self.connections = state, rate, list[dict[str, Any]]()

    def note(self, role: str, writer: asyncio.StreamWriter) -> dict[str, Any]:
        seen: dict[str, Any] = {
            "server": role,
            "dst": shown(writer.get_extra_info("sockname")),
            "src": shown(writer.get_extra_info("peername")),
            "opened": time.time(),
            "closed": None,
            "jobs": {},
        }
        self.connections.append(seen)
        return seen

    async def source(self, role: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen, number = self.note(role, writer), 0
        at_end = asyncio.ensure_future(reader.read(1))
        try:
            while not at_end.done():
                writer.write(f"src={seen['src']}|{number}|{PAD}\n".encode())
                await writer.drain()
                number += 1
                await asyncio.sleep(1 / self.rate)
        except OSError:
            pass
        finally:
            at_end.cancel()
            seen["closed"] = time.time()
            writer.close()

    async def sink(self, role: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = self.note(role, writer)
        try:
            while line := await reader.readline():
                if match := LINE.match(line):
                    sources = seen["jobs"].setdefault(match[1].decode(), [])
                    if match[2].decode() not in sources:
                        sources.append(match[2].decode())
        except (OSError, ValueError):
            pass
        finally:
            seen["closed"] = time.time()
            writer.close()

    async def serve(self, role: str, where: str) -> None:
        on = self.source if role.startswith("src-") else self.sink
        await asyncio.start_server(lambda reader, writer: on(role, reader, writer), *endpoint(where))

    async def main(self, roles: list[str]) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        for role, _, where in (text.partition("=") for text in roles):
            await self.serve(role, where)
        while not stop.is_set():
            with open(f"{self.state}.new", "w") as file:
                json.dump(self.connections, file)
            os.replace(f"{self.state}.new", self.state)
            try:
                await asyncio.wait_for(stop.wait(), 0.2)
            except TimeoutError:
                continue


if __name__ == "__main__":
    asyncio.run(Servers(sys.argv[1], float(sys.argv[2])).main(sys.argv[3:]))
