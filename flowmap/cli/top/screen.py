"""What ``flowmap top`` shows, and what each key does: without a terminal, a daemon or a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flowmap.cli.output import text
from flowmap.cli.traffic import flows, grouped
from flowmap.cli.traffic.grouped import Group

Mode = Literal["groups", "flows", "explain", "help"]

ORDERS = ("rate", "receiveRate", "transmitRate", "bytes", "openConnections")
SORT_WORDS = {
    "rate": "rate",
    "receiveRate": "received rate",
    "transmitRate": "sent rate",
    "bytes": "bytes since the start",
    "openConnections": "open connections",
}
SIDES = (("deployment", "peer"), ("deployment",), ("peer",))
HELP = (
    "  up, down       select a line, or scroll",
    "  Enter, right   its connections; why a connection has its name",
    "  Esc, left      back",
    "  s              sort by the next column",
    "  b              by deployment and peer, by deployment, by peer",
    "  /              filter by words; Enter applies, Esc clears",
    "  p              pause or continue",
    "  ?              this help",
    "  q              quit",
)
STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -15, "page down": 15, "home": -(10**6), "end": 10**6}
"""Lines by which a key moves."""
WIDE = 100
"""Columns of a terminal from which on all columns of a table are shown."""
FLOW_HEADER = ("STATE", "DEPLOYMENT", "CLIENT", "SERVER", "TRANSMIT", "RECEIVE", "STARTED UTC")

Answer = dict[str, Any]


@dataclass
class Screen:
    """The state of the program. The program around it reads ``wanted`` and fills in the answers."""

    sides: tuple[str, ...] = SIDES[0]
    order: str = ORDERS[0]
    filter: str = ""
    mode: Mode = "groups"
    paused: bool = False
    typing: str | None = None
    """The filter while it is typed; None otherwise."""
    selected: int = 0
    top: int = 0
    """First line shown."""
    map: Answer | None = None
    newest: Answer | None = None
    """The map of the last event; ``map`` stays behind it during a pause."""
    status: Answer | None = None
    missed: int = 0
    problem: str = ""
    """Why the figures are not live; empty if they are."""
    group: Group | None = None
    """The group whose connections are shown."""
    connections: list[Answer] = field(default_factory=list)
    more: bool = False
    """Whether there are more connections than were read."""
    explained: Answer | None = None
    """The connection that is explained."""
    explanation: list[str] = field(default_factory=list)
    over: bool = False

    @property
    def stream(self) -> dict[str, str]:
        """Parameters of the stream that the screen needs; a change needs a new one."""
        return {"events": "map,status", "text": self.filter, "order": self.order, "limit": "100"}

    def key(self, name: str) -> None:
        """Take a key."""
        if self.typing is not None:
            self._type(name)
        elif name in STEPS:
            self._move(name)
        elif name in _ACTIONS:
            _ACTIONS[name](self)

    def take(self, name: str, data: Answer) -> None:
        """Take an event of the stream. A pause keeps what is shown."""
        self.problem = ""
        if name == "missed":
            self.missed = data["missed"]
        elif name == "status":
            self.status = data
        elif name == "map":
            self.newest = data if data["whole"] or self.newest is None else merged(self.newest, data)
            if not self.paused:
                self.map = self.newest

    def groups(self) -> list[Group]:
        """The lines of the traffic, the largest first; what has no owner and the others keep their place by size."""
        found = [] if self.map is None else list(grouped.groups(self.map, self.sides))
        return sorted(found, key=lambda one: -size(one.figures, self.order))

    def lines(self, width: int, height: int) -> tuple[list[str], int]:
        """The whole screen as text, and which line is selected (-1: none). Nothing is wider than ``width``."""
        head = [self._first_line(), self._second_line()]
        table, chosen = self._body(width)
        room = max(1, height - len(head) - 2)
        self._scroll(len(table) - 1, room, chosen)
        body = [table[0], *table[1 + self.top : 1 + self.top + room]]
        selected = len(head) + 1 + self.selected - self.top if chosen and len(table) > 1 else -1
        body += [""] * (room + 1 - len(body))
        shown = [text.cut(text.shown(line), width) for line in (*head, *body, self._footer())]
        return shown[:height], selected

    def _body(self, width: int) -> tuple[list[str], bool]:
        if self.mode == "help":
            return ["Keys", *HELP], False
        if self.mode == "explain":
            return [f"Why {_flow_name(self.explained)}", *self.explanation], False
        if self.mode == "flows":
            known = {"STATE"} if self.group is not None and self.group.deployment is not None else set()
            rows = [_flow_row(flow) for flow in self.connections]
            return table_of(FLOW_HEADER, rows, width, {"STARTED UTC"} | known), True
        spare = {"TRANSMIT/S", "RECEIVE/S"} if self.order == "bytes" else {"TRANSMIT", "RECEIVE"}
        rows = [grouped.row(one) for one in self.groups()]
        return table_of(grouped.header(self.sides), rows, width, spare), True

    def _first_line(self) -> str:
        status = self.status
        if status is None:
            return f"flowmap  {self.problem or 'connecting …'}"
        parts = [f"flowmap {status['version']}", status["source"], f"{status['openFlows']:,} flows open"]
        parts.append(f"{status['pendingFlows']:,} pending")
        if status["counterAgeSeconds"] is not None:
            parts.append(f"counters {status['counterAgeSeconds']:.0f} s old")
        return "  ".join(parts)

    def _second_line(self) -> str:
        if self.problem:
            return f"NOT LIVE: {self.problem}"
        parts = ["PAUSED"] if self.paused else []
        if self.status is not None:
            losses = [(name, self.status[name]) for name in ("lost", "overruns", "shed")]
            parts.append("  ".join(f"{name} {count:,}" for name, count in losses))
            if self.status["problems"]:
                parts.append(f"problems {len(self.status['problems'])}: {self.status['problems'][0]}")
        if self.missed:
            parts.append(f"{self.missed:,} updates missed here")
        return "  ".join(parts)

    def _footer(self) -> str:
        if self.typing is not None:
            return f"filter: {self.typing}_"
        if self.mode == "flows" and self.group is not None:
            names = " to ".join(name for name in (self.group.deployment, self.group.peer) if name)
            more = f" (the first {len(self.connections)})" if self.more else ""
            return f"connections of {names}{more}   Enter why   Esc back   q quit"
        if self.mode != "groups":
            return "Esc back   q quit"
        filtered = f" matching {self.filter!r}" if self.filter else ""
        by = " and ".join(self.sides)
        return f"by {by}{filtered}, sorted by {SORT_WORDS[self.order]}   s sort  b by  / filter  Enter  ? q"

    def _scroll(self, count: int, room: int, chosen: bool) -> None:
        self.selected = max(0, min(self.selected, count - 1)) if chosen else 0
        at = self.selected if chosen else self.top
        low = max(0, at - room + 1) if chosen else 0
        self.top = max(low, min(self.top, at if chosen else max(0, count - room)))

    def _move(self, name: str) -> None:
        step = STEPS[name]
        if self.mode in ("groups", "flows"):
            self.selected = max(0, self.selected + step)
        else:
            self.top = max(0, self.top + step)

    def _type(self, name: str) -> None:
        typed = self.typing or ""
        if name == "enter":
            self.filter, self.typing = typed.strip(), None
        elif name == "back":
            self.filter, self.typing = "", None
        elif name == "erase":
            self.typing = typed[:-1]
        elif len(name) == 1:
            self.typing = (typed + name)[:100]

    def _enter(self) -> None:
        if self.mode == "groups" and (found := self.groups()):
            chosen = found[min(self.selected, len(found) - 1)]
            if chosen.filters:
                self.group, self.connections, self.mode, self.selected = chosen, [], "flows", 0
        elif self.mode == "flows" and self.connections:
            self.explained = self.connections[min(self.selected, len(self.connections) - 1)]
            self.explanation, self.mode, self.top = ["asking …"], "explain", 0

    def _back(self) -> None:
        before: dict[Mode, Mode] = {"explain": "flows", "flows": "groups", "help": "groups", "groups": "groups"}
        self.mode, self.top = before[self.mode], 0

    def _sort(self) -> None:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]

    def _by(self) -> None:
        self.sides = SIDES[(SIDES.index(self.sides) + 1) % len(SIDES)] if self.sides in SIDES else SIDES[0]

    def _pause(self) -> None:
        self.paused = not self.paused
        if not self.paused:
            self.map = self.newest

    def _filter(self) -> None:
        self.mode, self.typing = "groups", self.filter

    def _help(self) -> None:
        self.mode, self.top = "help", 0

    def _quit(self) -> None:
        self.over = True


_ACTIONS: dict[str, Callable[[Screen], None]] = {
    "q": Screen._quit,
    "enter": Screen._enter,
    "back": Screen._back,
    "s": Screen._sort,
    "b": Screen._by,
    "p": Screen._pause,
    " ": Screen._pause,
    "/": Screen._filter,
    "?": Screen._help,
    "h": Screen._help,
}


def size(figures: Answer, order: str) -> float:
    """What makes a line large."""
    match order:
        case "bytes":
            return float(figures["transmitBytes"] + figures["receiveBytes"])
        case "rate":
            return float((figures["transmitRate"] or 0) + (figures["receiveRate"] or 0))
    return float(figures[order] or 0)


def merged(known: Answer, delta: Answer) -> Answer:
    """The map after an event of the stream."""
    deployments = {one["id"]: one for one in (*known["deployments"], *delta["deployments"])}
    peers = {one["id"]: one for one in (*known["peers"], *delta["peers"])}
    links = {(one["deployment"], one["peer"]): one for one in (*known["links"], *delta["links"])}
    for gone in delta["goneLinks"]:
        links.pop(tuple(gone), None)
    return delta | {
        "deployments": [deployments[key] for key in delta["deploymentIds"]],
        "peers": [peers[key] for key in delta["peerIds"]],
        "links": list(links.values()),
    }


def table_of(header: Sequence[str], rows: Sequence[Sequence[object]], width: int, spare: set[str]) -> list[str]:
    """Lines of a table with a margin for the mark of the selected one; without the ``spare`` columns if it is narrow.

    All columns may be cut to fit, also those that tables of other commands never cut.
    """
    kept = [place for place, name in enumerate(header) if width >= WIDE or name not in spare]
    data = [tuple(row[place] for place in kept) for row in rows]
    plain = [f"{name} " if name in text.WHOLE else name for name in (header[place] for place in kept)]
    return ["  " + line for line in text.table(plain, data, width=width - 2)]


def _flow_row(flow: Answer) -> tuple[object, ...]:
    state, owners, client, server, _, sent, received, started, *_ = flows.row(flow)
    return state, owners, client, server, sent, received, started


def _flow_name(flow: Answer | None) -> str:
    return "" if flow is None else f"{flows.endpoint(flow['client'])} -> {flows.endpoint(flow['server'])}"
