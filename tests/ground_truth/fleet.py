"""Three daemons that share a real Valkey, which is stopped, killed and restarted while they name the same flows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowmap.fleet.requests import FleetScope
from tests.ground_truth.observer import Observer
from tests.support.fleet import settled
from tests.support.host import Daemon
from tests.support.netns import Namespace
from tests.support.valkey import ValkeyServer, running

PORTS = (10818, 10819)
"""Of the daemons beside the one that every run has."""

FAULTS: tuple[tuple[float, Callable[[ValkeyServer], None], float, Callable[[ValkeyServer], None]], ...] = (
    (4.0, ValkeyServer.pause, 2.5, ValkeyServer.resume),
    (3.0, ValkeyServer.end, 1.0, ValkeyServer.start),
    (9.0, ValkeyServer.pause, 0.5, ValkeyServer.resume),
    (2.0, ValkeyServer.end, 3.0, ValkeyServer.start),
)
"""After how long the server gets which fault, how long it lasts, and what ends it; again and again."""

Config = dict[str, Any]


class Companions:
    """The other daemons of the fleet."""

    def __init__(self, daemons: list[Daemon]) -> None:
        self._daemons = daemons
        self.observers = [Observer(daemon) for daemon in daemons]

    def ready(self) -> bool:
        return all(daemon.ready() for daemon in self._daemons)

    def look(self) -> None:
        for observer in self.observers:
            observer.look()


@contextmanager
def sharing(inside: Namespace, config: Mapping[str, Any], directory: Path) -> Iterator[tuple[Config, Companions]]:
    """The configuration of one daemon that shares, and the others, which have begun."""
    plane = config["control_plane"]
    scope = FleetScope(plane["endpoint"], plane["credentials"]["access_key_id"], "")
    key = directory / "fleet-key"
    key.write_text("k" * 40)
    with running(directory) as server:
        settled(server, scope)
        fleet = {"url": server.url, "size": 1 + len(PORTS), "key_file": str(key)}
        companions, over = [], threading.Event()
        faults = threading.Thread(target=_trouble, args=(server, over))
        try:
            for port in PORTS:
                place = directory / str(port)
                place.mkdir()
                other = {**config, "fleet": fleet, "http": {"listen": f"127.0.0.1:{port}"}}
                other["history"] = {"path": str(place / "history.sqlite")}
                companions.append(Daemon(inside, other, place))
            faults.start()
            yield {**config, "fleet": fleet}, Companions(companions)
            assert [daemon.stop() for daemon in companions] == [0] * len(PORTS)
        finally:
            over.set()
            faults.join()
            for daemon in companions:
                if daemon.process.poll() is None:
                    daemon.process.kill()
                    daemon.process.wait()


def _trouble(server: ValkeyServer, over: threading.Event) -> None:
    while True:
        for pause, begin, lasting, end in FAULTS:
            if over.wait(pause):
                return
            begin(server)
            over.wait(lasting)
            end(server)
