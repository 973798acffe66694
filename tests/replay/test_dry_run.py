"""What a recorded quarter of an hour would cost: a made-up one, of which everything is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.config import Config
from flowmap.engine.factory import make_accounting
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.source import SourceStats
from flowmap.recording.file import RecordingFile
from flowmap.recording.recorder import Recorder
from flowmap.recording.settings import kept_settings
from flowmap.replay.driver import ReplayDriver, Reply, TimedStep, answer
from flowmap.replay.dry_run import Cost, DryRun
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.commands import SOURCE, WALL
from tests.support.records import Record, batch_of, replace

CLIENTS, SERVICES, MINUTES = 12, 5, 15
SECONDS = 60.0 * MINUTES
OPEN = Record(RecordKind.OPENED, flags=int(Flag.PRESENT), counters=(0, 0, 0, 0))


def settings(**attribute: Any) -> Config:
    plane = {"workspace": "w", "namespaces": ["ns"], "rate": 50, "burst": 50, "max_in_flight": 50}
    return Config.model_validate(
        {"control_plane": plane, "attribute": {"recheck": "1m"} | attribute, "collect": {"max_flows": 2000}}
    )


def quarter() -> Iterator[TimedStep]:
    """Each client has a connection to each service for half of every minute; then two quiet minutes."""
    yield TimedStep(ReadStarted("start"), 0.0, 0.0)
    yield TimedStep(ReadFinished(True), 0.0, 0.0)
    for second in range(1, int(SECONDS) + 120, 2):
        if second < SECONDS and second % 60 in (5, 35):
            yield TimedStep(batch_of(*flows(second)), second, second)
        yield TimedStep(CaughtUp(second), second, second)


def flows(second: int) -> list[Record]:
    """The flows of a minute as they begin or as they end."""
    minute, ends = divmod(second, 60)
    begun = [
        replace(OPEN, client=f"10.0.0.{c}", client_port=1000 + minute, server=f"10.1.0.{s}", id=number(c, s, minute))
        for c in range(1, CLIENTS + 1)
        for s in range(1, SERVICES + 1)
    ]
    return begun if ends == 5 else [replace(flow, kind=RecordKind.CLOSED, counters=(100, 50, 2, 1)) for flow in begun]


def number(client: int, service: int, minute: int) -> int:
    return 1 + minute * 1000 + client * 20 + service


def owner(client: int) -> DeploymentInfo:
    """Of a client address: a deployment for every three; what is left is nobody's."""
    return DeploymentInfo(Owner("w", "ns", f"id-{client // 3}", f"job-{client // 3}"))


OWNED = {Address.parse(f"10.0.0.{n}"): owner(n) for n in range(1, CLIENTS - 1)}


def plane(question: Question, now: float) -> Reply:
    """Each service is used by all deployments; a client address has its own."""
    infos = list(dict.fromkeys(info.owner for info in OWNED.values()))
    named = [DeploymentInfo(one) for one in infos]
    if question.shape is Shape.HOST:
        named = []
    if question.shape is Shape.CLIENT:
        assert question.source is not None
        named = [OWNED[question.source.address]] if question.source.address in OWNED else []
    return answer(question, now, named, latency=0.25)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The quarter as a daemon would have recorded it, and how many questions it asked."""
    path, clock = tmp_path_factory.mktemp("quarter") / "recording", [0.0]
    wanted = settings()
    accounting = make_accounting(wanted, announces_births=True)
    recorder = Recorder(
        accounting,
        RecordingFile(path, max_size=1 << 30),
        facts={"source": SOURCE, "settings": kept_settings(wanted)},
        stats=SourceStats,
        clock=lambda: clock[0],
        wall_clock=lambda: clock[0] + WALL,
    )
    recorder.start()
    offline = ReplayDriver(accounting, plane, apply=recorder.apply)
    for timed in offline.run(quarter()):
        clock[0] = timed.now
    recorder.close()
    assert accounting.pending_flows == 0
    return path, offline.calls


def dry(path: Path, config: Config | None = None) -> Cost:
    run = DryRun(path, config)
    shares = list(run.run())
    assert shares == sorted(shares)
    assert shares[-1] == 1 or math.isclose(shares[-1], 1, abs_tol=0.01)
    assert run.missing == ""
    return run.cost()


FLOWS = MINUTES * CLIENTS * SERVICES


def test_the_recorded_settings_cost_what_they_cost(recording: tuple[Path, int]) -> None:
    path, calls = recording
    cost = dry(path)
    assert cost.flows == FLOWS
    assert cost.seconds == SECONDS + 119
    assert abs(cost.calls - calls) <= calls * 0.02
    assert cost.recorded <= calls
    assert sum(cost.by_shape.values()) == cost.calls
    assert cost.by_shape["sink"] == cost.by_shape["source"]
    assert cost.per_1000_flows == 1000 * cost.calls / FLOWS
    assert cost.unknown == 0
    named = MINUTES * (CLIENTS - 2) * SERVICES
    assert cost.states == {"attributed": named, "unknown": FLOWS - named}
    facts = cost.facts()
    assert (facts["calls"], facts["flows"]) == (cost.calls, FLOWS)
    assert facts["callsPer1000Flows"] == round(1000 * cost.calls / FLOWS, 3)


def test_answers_that_never_grow_old_cost_one_round(recording: tuple[Path, int]) -> None:
    path, _ = recording
    cost = dry(path, settings(positive_ttl="2h", negative_ttl="2h", recheck="2h"))
    assert cost.calls == CLIENTS + 3 * SERVICES, "n clients and m service ends cost n + 3m"


def test_other_settings_cost_other_calls(recording: tuple[Path, int]) -> None:
    path, calls = recording
    connection = dry(path, settings(semantics="connection"))
    assert "source" not in connection.by_shape
    named = MINUTES * (CLIENTS - 2) * SERVICES
    assert connection.states == {"attributed": named, "unknown": FLOWS - named}
    slow = dry(path, settings(positive_ttl="5m", negative_ttl="5m", recheck="5m"))
    assert slow.calls < calls / 3


def test_what_the_recording_does_not_know_is_counted(recording: tuple[Path, int]) -> None:
    path, _ = recording
    other = settings().model_copy(
        update={"control_plane": settings().control_plane.model_copy(update={"namespaces": ("elsewhere",)})}
    )
    cost = dry(path, other)
    assert cost.unknown == cost.calls > 0
    assert cost.states == {"unknown": FLOWS}
