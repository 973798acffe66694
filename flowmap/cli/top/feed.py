"""The daemon as ``flowmap top`` reads it: the stream in a thread, connections and explanations when they are wanted."""

from __future__ import annotations

import argparse
import json
import queue
import re
import threading
import time
from typing import Any

from flowmap.cli.output import explaining, text
from flowmap.cli.shared.client import DaemonClient, connect
from flowmap.cli.top.screen import Screen
from flowmap.cli.traffic.grouped import Group
from flowmap.errors import QueryError

AGAIN = 2.0
"""Seconds until a stream that failed is asked for again."""
CONNECTIONS = 200
"""Connections of a group that are read."""
REFRESH = 2.0
"""Seconds between two reads of them."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\.\d{3}Z")  # the time of day is enough, and fits

Event = tuple[dict[str, str], str, dict[str, Any]]
"""Parameters of the stream, name and data."""


class Feed:
    """Fills a screen. The thread ends with the process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """QueryError for files or passwords that cannot be used."""
        self._client = connect(arguments)
        self._streaming = connect(arguments)
        self._events: queue.Queue[Event] = queue.Queue(maxsize=16)
        self._wanted: dict[str, str] = {}
        self._read_at = 0.0
        self._explained: dict[str, Any] | None = None

    def start(self, parameters: dict[str, str]) -> None:
        """Read the stream with these parameters. QueryError if the daemon cannot be asked at all."""
        self._client.get("map", {"limit": 1})
        self._wanted = parameters
        threading.Thread(target=self._run, name="stream", daemon=True).start()

    def fill(self, screen: Screen) -> None:
        """Bring the screen up to date."""
        self._wanted = screen.stream
        while not self._events.empty():
            parameters, name, data = self._events.get()
            if name == "failed":
                screen.problem = data["problem"]
            elif parameters == screen.stream:
                screen.take(name, data)
        try:
            self._details(screen)
        except QueryError as error:
            screen.problem = str(error)

    def _details(self, screen: Screen) -> None:
        due = not screen.connections or time.monotonic() - self._read_at >= REFRESH
        if screen.mode == "flows" and screen.group is not None and due and not screen.paused:
            screen.connections, screen.more = connections(self._client, screen.group)
            self._read_at = time.monotonic()
        if screen.mode == "explain" and screen.explained is not None and screen.explained is not self._explained:
            screen.explanation = explanation(self._client, screen.explained)
            self._explained = screen.explained

    def _run(self) -> None:
        while True:
            parameters = self._wanted
            try:
                for name, data in self._streaming.events("stream", parameters):
                    self._events.put((parameters, name, data))
                    if self._wanted != parameters:
                        break
            except QueryError as error:
                self._events.put((parameters, "failed", {"problem": str(error)}))
                time.sleep(AGAIN)


def connections(client: DaemonClient, group: Group) -> tuple[list[dict[str, Any]], bool]:
    """The connections of a group, the largest first; the second value: whether there are more."""
    page = client.get("flows", {**group.filters, "limit": CONNECTIONS})
    found = sorted(page["flows"], key=lambda flow: -(flow["transmitBytes"] + flow["receiveBytes"]))
    return found, page["nextCursor"] is not None


def explanation(client: DaemonClient, flow: dict[str, Any]) -> list[str]:
    """Why a connection has its name, line by line."""
    asked = {
        "srcIp": flow["client"]["ip"],
        "srcPort": flow["client"]["port"] or None,
        "dstIp": flow["server"]["ip"],
        "dstPort": flow["server"]["port"] or None,
        "protocol": flow["protocol"],
        "netns": flow.get("netns"),
        "explain": 1,
    }
    answer = client.get("attribution", asked)
    names = ", ".join(one["name"] for one in answer["deployments"]) or "no deployment"
    lines = [f"{answer['state']}: {names}", *([answer["cause"]] if answer["cause"] else [])]
    if answer["explanation"]:
        lines += explaining.lines(json.loads(_TIME.sub(r"\1", json.dumps(answer["explanation"]))), width=None)
    return [text.clean(line) for line in lines]
