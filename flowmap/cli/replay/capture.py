"""``flowmap replay`` of capture files: pcap and pcapng, also gzipped."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from flowmap.attribute.questions import UNREADABLE, Question
from flowmap.catalog_file.catalog import load_catalog
from flowmap.catalog_file.matching import Index
from flowmap.cli.output import text
from flowmap.cli.replay import output
from flowmap.cli.shared import direct
from flowmap.cli.shared.asking import Pace
from flowmap.config import Config, load, require_control_plane
from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
from flowmap.control.alibaba.control_plane import describe
from flowmap.daemon.clients import control_client
from flowmap.errors import ControlError, QueryError
from flowmap.export.peers import Peers
from flowmap.history.reader import HistoryReader
from flowmap.model.deployment import DeploymentInfo, Owner, may_own
from flowmap.replay.capture import CaptureReplay
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.capture_owners import LATENCY, NOT_ASKED, catalog_changes, from_catalog, from_history, with_catalog
from flowmap.replay.driver import Answerer, Changes, Reply, answer, failure
from flowmap.system.names import run_loop

ASSUMED = "assumed"
"""Origin of today's answers that are used for the capture's time."""


def replay(arguments: argparse.Namespace) -> int:
    """Attribute the file; returns the exit status."""
    if arguments.dry_run:
        raise QueryError("--dry-run: works only with a recording of flowmap run --record")
    if arguments.catalog is not None and arguments.assume_current:
        raise QueryError("--assume-current and --catalog exclude each other; give one of them")
    config = load(arguments.config, os.environ)
    with CaptureFile(arguments.file) as file, _owners(arguments, config) as (config, answerer, changes):
        origin = ASSUMED if arguments.assume_current else "catalog" if arguments.catalog is not None else "history"
        tunnels = arguments.tunnels or config.collect.capture.tunnels
        loopback = True if arguments.catalog is not None else None  # a catalog may know loopback addresses
        timeless = arguments.assume_current
        replayed = CaptureReplay(
            file,
            config,
            answerer,
            tunnels=tunnels,
            origin=origin,
            loopback=loopback,
            timeless=timeless,
            changes=changes,
        )
        labels = config.export.deployment_labels
        status = output.show(replayed, arguments, deployment_labels=labels)
    notes = [*replayed.notes(), *_of_settings(config), *_of_owners(arguments, config)]
    for line in notes:
        sys.stderr.write(f"flowmap: {text.clean(line)}\n")
    return status


def _of_settings(config: Config) -> Iterator[str]:
    """Notes on settings that have no effect on a replay."""
    if config.collect.capture.filter:
        yield "collect.capture.filter has no effect on a replay; all packets of the file count"


def _of_owners(arguments: argparse.Namespace, config: Config) -> Iterator[str]:
    """Notes on the origin of the owners."""
    if arguments.assume_current:
        yield "using today's owners for the capture's time (--assume-current)"
    elif arguments.catalog is None and config.history.path is not None:
        yield f"using the owners that {config.history.path} confirms for the capture's time; other flows stay pending"
    elif arguments.catalog is None:
        yield f"{NOT_ASKED}; give --catalog FILE, history.path with -c, or --assume-current to use today's owners"


@contextmanager
def _owners(arguments: argparse.Namespace, config: Config) -> Iterator[tuple[Config, Answerer | None, Changes | None]]:
    """The configuration with the namespaces to ask, the origin of answers or None, and when they change, if known."""
    if arguments.catalog is not None:
        catalog = load_catalog(arguments.catalog)
        grace = config.attribute.grace
        answerer = from_catalog(Index(catalog), grace=grace)
        yield with_catalog(config, catalog), answerer, catalog_changes(catalog, grace=grace)
    elif not arguments.assume_current and config.history.path is not None:
        nat = config.attribute.nat == "translated"
        history_reader = HistoryReader(
            config.history.path, peer_name=Peers(config.export.peers).name, translated_ends=nat
        )
        yield config, from_history(history_reader.intervals), None
    elif not arguments.assume_current:
        yield config, None, None
    else:
        require_control_plane(config)
        with run_loop() as runner:
            client = control_client(config.control_plane)
            try:
                yield config, _today(client, Pace(config.control_plane), runner), None
            finally:
                runner.run(client.aclose())


def _today(client: ControlClient, pace: Pace, runner: asyncio.Runner) -> Answerer:
    """Answers from the control plane, one call for each question. The first error is raised, later ones are answers."""
    known: dict[Question, DeploymentsAnswer | ControlError] = {}

    async def ask(question: Question) -> DeploymentsAnswer | ControlError:
        async with pace.call():
            return await direct.ask(client, question)

    def answerer(question: Question, now: float) -> Reply:
        if question not in known:
            known[question] = runner.run(ask(question))
            if isinstance(given := known[question], ControlError) and len(known) == 1:
                raise given
        return _reply(client.workspace, question, now, known[question])

    return answerer


def _reply(workspace: str, question: Question, now: float, given: DeploymentsAnswer | ControlError) -> Reply:
    if isinstance(given, ControlError):
        return failure(question, now, f"{given.reason}: {given}", latency=LATENCY)
    infos = [describe(one, workspace, question.namespace, given) for one in given.deployments]
    if given.dropped:  # an unreadable deployment may own it too
        if not infos:
            return failure(question, now, "protocol: the answer could not be read", latency=LATENCY)
        infos.append(DeploymentInfo(Owner(workspace, question.namespace, UNREADABLE, UNREADABLE)))
    return answer(question, now, [info for info in infos if may_own(info)], latency=LATENCY)
