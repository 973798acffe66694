"""Some hosts of a fleet in a process of their own.

``python -m tests.support.fleet_process PORT NAME HOSTS QUESTIONS LOG``
Every host asks about :data:`EACH` of the addresses, some of them the same as the next host's.
The log has a line for each call, when it begins, and one for each answer.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from flowmap.errors import ControlError
from flowmap.fleet.control_plane import SharedControlPlane
from flowmap.fleet.server.connection import ServerAddress
from tests.support.fleet import World, allow_for_company, ask, fleet, host

RATE, BURST, LEASE = 20.0, 5, 3.0
EACH = 16


class LoggingWorld(World):
    """Calls are written down as they begin."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.took = 0.2
        self.file = log.open("a", buffering=1)
        self.calls = Lines(self)  # type: ignore[assignment]


class Lines:
    """In place of a list of calls."""

    def __init__(self, world: LoggingWorld) -> None:
        self._world = world

    def append(self, call: tuple[float, str, str]) -> None:
        at, name, what = call
        self._world.file.write(f"call {at} {name} {what}\n")


async def main(port: int, name: str, hosts: int, questions: int, log: Path) -> None:
    world = LoggingWorld(log)
    planes = [
        host(world, ServerAddress("127.0.0.1", port), f"{name}-{n}", rate=RATE, burst=BURST, lease=LEASE, size=100)
        for n in range(hosts)
    ]

    async def one(plane: SharedControlPlane, number: int) -> None:
        for question in range(EACH):
            address = f"10.9.0.{(question + number * EACH // 2) % questions}"
            while True:
                try:
                    await ask(plane, address)
                    break
                except (TimeoutError, ControlError):
                    continue
            world.file.write(f"answer {time.monotonic()} {name}-{number} {address}\n")

    async with fleet(*planes):
        await asyncio.gather(*(one(plane, number) for number, plane in enumerate(planes)))
    world.file.write(f"done {time.monotonic()} {name} -\n")


if __name__ == "__main__":
    allow_for_company()
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])))
