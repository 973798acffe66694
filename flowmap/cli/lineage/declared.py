"""Declared lineage, and how it differs from the observed one.

Declared is what events of OpenLineage say: a file with one event, a list of them, or one a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from flowmap.errors import QueryError

LARGEST = 256 << 20
"""Bytes of a file."""

Edge = dict[str, Any]


class Declared(NamedTuple):
    """A job and a dataset that its events declare."""

    job: str
    direction: str
    """``reads`` or ``writes``."""
    namespace: str
    name: str

    @property
    def authority(self) -> str:
        """``host:port`` in the namespace, or the text in its place."""
        return self.namespace.partition("://")[2].partition("/")[0] or self.namespace


class Difference(NamedTuple):
    """One difference: ``observed only``, ``declared only`` or ``direction differs``."""

    kind: str
    job: str
    direction: str
    peer: str


def read_declared(path: str) -> list[Declared]:
    """What a file declares, each once. QueryError with the line if that is no event of OpenLineage."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise QueryError(f"{path}: {reason}") from error
    if len(text) > LARGEST:
        raise QueryError(f"{path}: is larger than {LARGEST >> 20} MiB")
    return list(dict.fromkeys(one for place, event in _events(path, text) for one in _of_event(place, event)))


def differences(
    edges: Sequence[Edge], declared: Sequence[Declared], addresses: Callable[[str], Iterable[str]]
) -> list[Difference]:
    """Every difference. ``addresses``: the endpoints (``ip:port``) that an authority stands for.

    A guessed direction differs from nothing. Of deployments that cannot be told apart, one declaration is enough.
    """
    found: list[Difference] = []
    met: set[Declared] = set()
    places = {one: {one.authority, one.name, *addresses(one.authority)} for one in declared}
    for edge in edges:
        names = [deployment["name"] or deployment["deploymentId"] for deployment in edge["deployments"]]
        ids = [deployment["deploymentId"] for deployment in edge["deployments"]]
        own = {edge["peer"], *edge["endpoints"]}
        same = [one for one in declared if one.job in (*names, *ids) and own & places[one]]
        met.update(same)
        job = ", ".join(names)
        if not same:
            found.append(Difference("observed only", job, edge["direction"], edge["peer"]))
        elif not edge["guessed"] and {one.direction for one in same}.isdisjoint(edge["direction"].split(" and ")):
            found.append(Difference("direction differs", job, edge["direction"], edge["peer"]))
    missing = [one for one in declared if one not in met]
    found += [Difference("declared only", one.job, one.direction, f"{one.namespace} {one.name}") for one in missing]
    return found


def _events(path: str, text: str) -> list[tuple[str, Any]]:
    """The events, each with its place."""
    try:
        whole = json.loads(text)
    except ValueError:
        return [_line(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not isinstance(whole, list):
        return [(path, whole)]
    return [(f"{path}: event {number}", event) for number, event in enumerate(whole, 1)]


def _line(place: str, line: str) -> tuple[str, Any]:
    try:
        return place, json.loads(line)
    except ValueError as error:
        raise QueryError(f"{place}: not JSON: {error}") from error


def _of_event(place: str, event: Any) -> Iterable[Declared]:
    try:
        job = event["job"]["name"]
        for key, direction in (("inputs", "reads"), ("outputs", "writes")):
            for one in event.get(key) or ():
                yield Declared(str(job), direction, str(one["namespace"]), str(one["name"]))
    except (TypeError, KeyError, AttributeError) as error:
        raise QueryError(
            f"{place}: no event of OpenLineage: it has no job, or a dataset without namespace and name"
        ) from error
