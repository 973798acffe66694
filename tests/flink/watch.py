"""The daemon in the hub, and what it ever said about each connection, held against the truth."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.flink.cluster import Connection, Stage
from tests.support.host import Daemon
from tests.support.netns import Namespace
from tests.support.waiting import until

LOOK_EVERY = 0.1
WAIT = 60.0
"""Longest wait in seconds for connections to be decided."""

Tuple = tuple[str, str]
"""Client and server endpoint, as text."""


class Said(NamedTuple):
    """What the daemon said about a connection."""

    state: str
    names: frozenset[str]


@dataclass
class Verdicts:
    """Connections by how well they were named."""

    right: list[Connection] = field(default_factory=list)
    wrong: list[tuple[Connection, Said]] = field(default_factory=list)
    shared: list[Connection] = field(default_factory=list)
    """The true job is one of a set."""
    unnamed: list[tuple[Connection, Said | None]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    """Seconds from a connection's start, or the daemon's if that is later, to its name."""

    def row(self) -> str:
        """The counts on one line."""
        delays = sorted(self.delays)
        late = f"{delays[len(delays) // 2]:.1f} s, worst {delays[-1]:.1f} s" if delays else "-"
        counts = f"right {len(self.right)}, wrong {len(self.wrong)}, shared {len(self.shared)}"
        return f"{counts}, unnamed {len(self.unnamed)}, name after {late}"


class Watched:
    """A running daemon whose listing of flows is read over and over."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.started = time.time()
        self.said: defaultdict[Tuple, list[tuple[float, Said]]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def latest(self, connection: Connection) -> Said | None:
        known = self.said.get((connection.src, connection.dst))
        return known[-1][1] if known else None

    def states(self, *, server: str = "", client: str = "") -> dict[Tuple, str]:
        """The last state of each connection whose endpoints begin so."""
        return {
            ends: known[-1][1].state
            for ends, known in dict(self.said).items()
            if ends[0].startswith(client) and ends[1].startswith(server)
        }

    def read_again(self) -> None:
        """Wait until the daemon has read every cluster anew."""
        since = time.time()

        def read() -> bool:
            clusters = self.daemon.json("/api/v1/status")["flink"]
            return all(one["up"] and datetime.fromisoformat(one["readAt"]).timestamp() > since for one in clusters)

        until(read, "every cluster was read anew", seconds=WAIT)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Read the listing once."""
        now = time.time()
        for flow in self.daemon.json("/api/v1/flows?limit=1000")["flows"]:
            behind = flow["translated"] or flow  # the servers see what address translation made of it
            ends = _shown(behind["client"]), _shown(behind["server"])
            names = frozenset(one["name"] for one in flow["deployments"])
            said, known = Said(flow["state"], names), self.said[ends]
            if not known or known[-1][1] != said:
                known.append((now, said))

    def judge(self, truth: list[Connection]) -> Verdicts:
        """Every connection of a job or of a stranger against everything that was ever said about it."""
        verdicts = Verdicts()
        for one in truth:
            if one.job is None:
                continue
            known = self.said.get((one.src, one.dst), [])
            named = [said for _, said in known if said.names]
            bad = next((said for said in named if one.job not in said.names), None)
            if bad is not None:
                verdicts.wrong.append((one, bad))
            elif not named:
                verdicts.unnamed.append((one, known[-1][1] if known else None))
            elif named[-1].names == {one.job}:
                verdicts.right.append(one)
                first = next(at for at, said in known if said.names == {one.job})
                verdicts.delays.append(first - max(one.opened, self.started))
            else:
                verdicts.shared.append(one)
        return verdicts

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            with contextlib.suppress(OSError, ValueError):
                self.look()


@contextlib.contextmanager
def watched(
    stage: Stage,
    directory: Path,
    *,
    inside: Namespace | None = None,
    urls: Mapping[str, str] | None = None,
    cluster: Mapping[str, Any] | None = None,
    **sections: Mapping[str, Any],
) -> Iterator[Watched]:
    """The daemon, ready, in the hub or another namespace; ``urls``: of each cluster; ``cluster``: more of its keys."""
    places = urls or {"prod": "http://127.0.0.1:8081"}
    clusters = [{"name": name, "urls": url.split(","), **(cluster or {})} for name, url in places.items()]
    config: dict[str, Any] = {
        "flink": {"clusters": clusters},
        "collect": {"source": "conntrack", "conntrack": {"resync": "2s"}},
        "http": {"listen": "127.0.0.1:10817"},
        "log": {"format": "text"},
    }
    for name, keys in sections.items():
        config[name] = config.get(name, {}) | keys
    where = directory / f"daemon-{time.monotonic_ns()}"
    where.mkdir()
    daemon = Daemon(inside or stage.hub, config, where)
    made: Watched | None = None
    try:
        end = time.monotonic() + 60
        while not daemon.ready():
            assert time.monotonic() < end, daemon.log.read_text()
            time.sleep(0.1)
        made = Watched(daemon)
        yield made
        assert daemon.process.poll() is None, daemon.log.read_text()
        daemon.samples()  # nothing lost or counted twice
    finally:
        if made is not None:
            made.close()
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def _shown(endpoint: Mapping[str, Any]) -> str:
    host = str(endpoint["ip"])
    return f"[{host}]:{endpoint['port']}" if ":" in host else f"{host}:{endpoint['port']}"


def settle(stage: Stage, seen: Watched, *, jobs: int, strangers: int = 0, since: float = 0.0) -> Verdicts:
    """Wait until that many connections of jobs and of strangers are decided; the verdicts on all open after ``since``.

    The counts are added to ``verdicts.txt`` of the stage.
    """

    def judged() -> Verdicts:
        return seen.judge([one for one in stage.truth() if one.closed is None or one.closed > since])

    def decided() -> bool:
        found = judged()
        waiting = [said for _, said in found.unnamed if said is None or said.state == "pending"]
        named = len(found.right) + len(found.shared) + len(found.wrong)
        return not waiting and named >= jobs and len([one for one, _ in found.unnamed if not one.job]) >= strangers

    until(decided, f"{jobs} connections of jobs and {strangers} of strangers are decided", seconds=WAIT)
    found = judged()
    with (stage.directory / "verdicts.txt").open("a") as file:
        file.write(f"{os.environ.get('PYTEST_CURRENT_TEST', '')}: {found.row()}\n")
    return found
