"""When each network namespace was read, and what that proves about its flows."""

from __future__ import annotations

from dataclasses import dataclass

from flowmap.flows.table import NEVER
from flowmap.model.namespace import OWN
from flowmap.sources.base import Lost, NamespaceRead, ReadEvent, ReadFinished, ReadStarted, Step


@dataclass(slots=True)
class _Namespace:
    born_after: float = NEVER
    """A flow that is not known began after this instant."""
    started: float = NEVER
    """Start of the last full read."""
    counters_at: float | None = None
    """Start of the last complete one."""
    trusted: bool = False
    """Nothing was lost since the last full read began."""


def event_of(step: ReadStarted | ReadFinished | Lost | NamespaceRead) -> tuple[int, ReadEvent]:
    """The namespace that is read, and what happened."""
    match step:
        case ReadStarted():
            return OWN, "started"
        case ReadFinished(complete):
            return OWN, "complete" if complete else "incomplete"
        case Lost():
            return OWN, "lost"
        case NamespaceRead(number, event):
            return number, event


def is_loss(step: Step) -> bool:
    """Whether flows may have come and gone before it without being seen."""
    match step:
        case Lost() | ReadStarted("start") | NamespaceRead(_, "lost"):
            return True
    return False


class ReadTimes:
    """Times of full reads by namespace, monotonic seconds."""

    def __init__(self) -> None:
        self._known = {OWN: _Namespace()}

    def open(self, namespace: int, absent_at: float | None) -> None:
        """Another namespace is read, which did not exist at ``absent_at``; None: it may be older."""
        self._known[namespace] = _Namespace(NEVER if absent_at is None else absent_at)

    def forget(self, namespace: int) -> None:
        """A namespace is not read any more."""
        self._known.pop(namespace, None)

    def begin(self, namespace: int, at: float) -> None:
        """A full read started at ``at``."""
        one = self._of(namespace)
        one.started, one.trusted = at, True

    def lose(self, namespace: int) -> None:
        """Changes were lost."""
        self._of(namespace).trusted = False

    def finish(self, namespace: int, *, announces_births: bool) -> None:
        """The full read has ended and is complete."""
        one = self._of(namespace)
        one.counters_at = one.started
        if not announces_births or namespace != OWN:
            one.born_after = one.started

    def catch_up(self, at: float, *, announces_births: bool, counts_live: bool) -> None:
        """Every change before ``at`` in the daemon's own namespace was delivered."""
        one = self._known[OWN]
        if counts_live:
            one.counters_at = max(one.counters_at or NEVER, at)
        if announces_births:
            one.born_after = at

    def is_trusted(self, namespace: int) -> bool:
        """Whether nothing was lost since the last full read of a namespace began."""
        return self._of(namespace).trusted

    def started(self, namespace: int) -> float:
        """Start of the last full read of a namespace."""
        return self._of(namespace).started

    def born_after(self, namespace: int) -> float:
        """A flow of this namespace that is not known began after this instant."""
        return self._of(namespace).born_after

    @property
    def all_born_after(self) -> float:
        """A flow of any namespace that is not known began after this instant."""
        return min(one.born_after for one in self._known.values())

    @property
    def counters_at(self) -> float:
        """The counters of the open flows of all namespaces that were read are not older than this instant."""
        read = [one.counters_at for one in self._known.values() if one.counters_at is not None]
        return min(read, default=NEVER)

    def _of(self, namespace: int) -> _Namespace:
        return self._known.get(namespace) or self._known.setdefault(namespace, _Namespace())
