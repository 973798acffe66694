"""The nodes that the series of a snapshot stand for: deployments on one side, peers on the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from flowmap.export.series import SeriesKey
from flowmap.model.deployment import DeploymentInfo, DeploymentKey, Owner, State
from flowmap.model.traffic_map import MapQuery

Numbers = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

T = TypeVar("T")


class Left(NamedTuple):
    """A deployment, a set of them, or traffic without an owner."""

    kind: str
    owners: tuple[Owner, ...]
    reason: str

    @property
    def id(self) -> str:
        keys = [part for owner in self.owners for part in owner.key]
        return _digest(self.kind, self.reason, *keys)

    @property
    def name(self) -> str:
        if self.kind == "internal":
            return f"Flink cluster {self.owners[0].namespace}" if self.owners else "Flink clusters"
        return ", ".join(owner.name or owner.deployment_id for owner in self.owners) or "no deployment"

    @property
    def foldable(self) -> bool:
        """Whether it may be summed up in ``others``. Traffic without an owner stays visible."""
        return self.kind in ("deployment", "shared")

    def has_state(self, state: State) -> bool:
        expected = _STATES.get(self.kind, self.reason)
        return expected == state


class Right(NamedTuple):
    """A peer."""

    peer: str
    protocol: str

    @property
    def id(self) -> str:
        return _digest("peer", self.peer, self.protocol)


_STATES: Mapping[str, str] = {"deployment": State.ATTRIBUTED, "shared": State.SHARED, "internal": State.INTERNAL}


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """The nodes of some rows: each row belongs to one on either side."""

    left: tuple[Left, ...]
    right: tuple[Right, ...]
    rows: Numbers
    """Rows that belong to a node."""
    left_of: Numbers
    """Position in ``left`` of each of ``rows``."""
    right_of: Numbers

    def passing(self, query: MapQuery, infos: Mapping[DeploymentKey, DeploymentInfo]) -> Mask:
        """Which of ``rows`` pass the query."""
        lefts, rights = _marks(self.left, lambda one: _passes(one, query, infos)), _marks(self.right, _peer_is(query))
        passes: Mask = lefts[self.left_of] & rights[self.right_of]
        for word in query.text.casefold().split():
            passes &= _marks(self.left, _mentions(word))[self.left_of] | _marks(self.right, _names(word))[self.right_of]
        return passes


def group(keys: Sequence[SeriesKey | None]) -> Grouping:
    """The nodes of the series with these keys."""
    return group_pairs([None if key is None else _pair(key) for key in keys])


def group_pairs(pairs: Sequence[tuple[Left, Right] | None]) -> Grouping:
    """The nodes of rows that are pairs; None is a row that is not in use."""
    left: dict[Left, int] = {}
    right: dict[Right, int] = {}
    rows, left_of, right_of = [], [], []
    for row, pair in enumerate(pairs):
        if pair is not None:
            rows.append(row)
            left_of.append(left.setdefault(pair[0], len(left)))
            right_of.append(right.setdefault(pair[1], len(right)))
    return Grouping(tuple(left), tuple(right), *(np.array(numbers, np.intp) for numbers in (rows, left_of, right_of)))


def _pair(key: SeriesKey) -> tuple[Left, Right]:
    return Left(key.kind, key.owners, key.reason), Right(key.peer, key.protocol)


def _marks(nodes: Sequence[T], test: Callable[[T], bool]) -> Mask:
    return np.fromiter(map(test, nodes), np.bool_, len(nodes))


def _passes(one: Left, query: MapQuery, infos: Mapping[DeploymentKey, DeploymentInfo]) -> bool:
    if query.state is not None and not one.has_state(query.state):
        return False
    if query.namespace is not None and all(owner.namespace != query.namespace for owner in one.owners):
        return False
    if query.deployment is not None and not any(owner.is_called(query.deployment) for owner in one.owners):
        return False
    if query.label is not None:
        key, value = query.label
        known = (infos.get(owner.key) for owner in one.owners)
        return any(info is not None and info.labels.get(key) == value for info in known)
    return True


def _mentions(word: str) -> Callable[[Left], bool]:
    return lambda one: word in _text(one)


def _names(word: str) -> Callable[[Right], bool]:
    return lambda one: word in one.peer.casefold()


def _peer_is(query: MapQuery) -> Callable[[Right], bool]:
    return lambda one: query.peer is None or one.peer == query.peer


def _text(one: Left) -> str:
    parts = [part for owner in one.owners for part in (owner.name, owner.deployment_id, owner.namespace)]
    return "\n".join((*parts, one.name, one.reason)).casefold()


def _digest(*parts: str) -> str:
    """A short id of texts that may hold anything."""
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=6).hexdigest()
