"""The table of sources: complete, and the same as the configuration's."""

from __future__ import annotations

from typing import get_args

import pytest

from flowmap.config import CollectConfig
from flowmap.sources.combined import CombinedSource
from flowmap.sources.conntrack.source import ConntrackSource
from flowmap.sources.kinds import KINDS, SourceKind, kept_capabilities
from flowmap.sources.sockets.source import SocketsSource
from flowmap.system.privileges import Capability

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def test_every_kind_can_be_configured() -> None:
    choices = get_args(CollectConfig.model_fields["source"].annotation)
    assert set(choices) == {"auto", "replay", *KINDS}
    assert set(CollectConfig.model_fields) >= KINDS.keys(), "a section for each"


@kinds
def test_a_made_source_has_the_facts_of_its_kind(kind: SourceKind) -> None:
    source = kind.make(CollectConfig())
    assert source.facts == kind.facts
    assert not source.stats.up
    source.close()


@kinds
def test_a_missing_capability_has_a_cost(kind: SourceKind) -> None:
    assert bool(kind.capabilities) == bool(kind.without)
    assert kept_capabilities(kind.facts.name) == kind.capabilities


def test_an_unknown_source_keeps_no_capability() -> None:
    assert not kept_capabilities("replay")


def test_reading_all_processes_keeps_a_capability() -> None:
    collect = CollectConfig.model_validate({"sockets": {"processes": "all"}})
    assert kept_capabilities("sockets", collect) == {Capability.SYS_PTRACE}
    assert kept_capabilities("conntrack", collect) == {Capability.NET_ADMIN, Capability.SYS_PTRACE}
    assert kept_capabilities("sockets", CollectConfig()) == frozenset()


def test_a_reload_changes_the_times_between_full_reads() -> None:
    settings = CollectConfig.model_validate({"sockets": {"interval": "60s"}, "conntrack": {"resync": "90s"}})
    sockets, conntrack = SocketsSource(interval=5.0), ConntrackSource(resync=30.0)
    CombinedSource(conntrack, sockets).configure(settings)
    assert (conntrack.resync, sockets.interval) == (90.0, 60.0)
