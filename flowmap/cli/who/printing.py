"""The owners of connections as words in text, as JSON, and as a summary by deployment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from flowmap.cli.output.text import clean
from flowmap.cli.who.asking import NAMED, Answers, Attribution
from flowmap.cli.who.mentions import Mention
from flowmap.cli.who.reader import Line

MARK = "  => "
"""Between a line and the owners that are added to it."""
SUMMARY = ("DEPLOYMENT", "STATE", "CONNECTIONS", "BY ADDRESS")


def by_address(mention: Mention, attribution: Attribution) -> bool:
    """Whether the owners are those of the client's address: the text has no port, or flowmap saw no such connection."""
    return mention.client.port is None or not attribution["observed"]


def words(mention: Mention, attribution: Attribution) -> str:
    """The owners of one connection, or why there is no name."""
    names = " | ".join(sorted(label(deployment) for deployment in attribution["deployments"]))
    state, cause = attribution["state"], attribution.get("cause") or ""
    which = f" {mention.client.ip}" if mention.server else ""  # of the two in the line
    if state in NAMED:
        one_of = " (one of these)" if state == "shared" else ""
        return f"{names}{one_of}{f' (by address{which})' if by_address(mention, attribution) else ''}"
    if state == "unknown":
        return "no deployment" if attribution["observed"] else f"no deployment (by address{which})"
    if state == "internal":
        return "internal to a Flink cluster"
    return f"? {state}{f': {cause}' if cause else ''}"


def label(deployment: dict[str, Any]) -> str:
    """The name of a deployment; its id if it has no name."""
    return str(deployment["name"] or deployment["deploymentId"])


def annotated(line: Line, answers: Answers) -> str:
    """The line with the owners of what it mentions. A line that mentions nothing is as it was."""
    shown = [words(mention, answers[mention]) for mention in line.mentions]
    if len(shown) > 1:
        shown = [f"{mention.client} {one}" for mention, one in zip(line.mentions, shown, strict=True)]
    shown += [f"? {line.remark}"] if line.remark else []
    return f"{line.text}{MARK}{clean('; '.join(shown))}" if shown else line.text


def line_json(number: int, line: Line, answers: Answers) -> dict[str, Any]:
    """One line in JSON."""
    return {
        "number": number,
        "text": line.text,
        "connections": [_connection_json(mention, answers[mention]) for mention in line.mentions],
        "remark": line.remark or None,
    }


def _connection_json(mention: Mention, attribution: Attribution) -> dict[str, Any]:
    client, server = mention.client._asdict(), mention.server._asdict() if mention.server else None
    kept = {key: attribution[key] for key in ("state", "observed", "deployments", "cause")}
    named = {"client": client, "server": server, "protocol": mention.protocol}
    return named | kept | {"byAddress": by_address(mention, attribution)}


class Summary:
    """Connections by deployment. A connection that several lines mention counts once."""

    def __init__(self) -> None:
        self._counted: set[Mention] = set()
        self._rows: defaultdict[tuple[str, str, tuple[str, ...]], list[int]] = defaultdict(lambda: [0, 0])

    def add(self, lines: Iterable[Line], answers: Answers) -> None:
        """Count what the lines mention."""
        for mention in {mention for line in lines for mention in line.mentions} - self._counted:
            self._counted.add(mention)
            attribution = answers[mention]
            deployments = sorted(attribution["deployments"], key=lambda one: (label(one), one["deploymentId"]))
            names = ", ".join(label(one) for one in deployments) or "(no deployment)"
            ids = tuple(one["deploymentId"] for one in deployments)
            row = self._rows[names, attribution["state"], ids]
            row[0] += 1
            row[1] += by_address(mention, attribution)

    def rows(self) -> list[tuple[object, ...]]:
        """Rows of the table, the most connections first."""
        ordered = sorted(self._rows.items(), key=lambda item: (-item[1][0], item[0]))
        return [(names, state, *counts) for (names, state, _), counts in ordered]

    def as_json(self) -> list[dict[str, Any]]:
        """The same for programs."""
        keys = ("deployments", "state", "connections", "byAddress")
        ordered = sorted(self._rows.items(), key=lambda item: (-item[1][0], item[0]))
        rows: Sequence[tuple[Any, ...]] = [(list(ids), state, *counts) for (_, state, ids), counts in ordered]
        return [dict(zip(keys, row, strict=True)) for row in rows]
