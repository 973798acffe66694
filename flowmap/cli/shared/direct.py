"""``query --direct``: ask the control plane about both endpoints and combine the answers as the daemon does.

No connection was observed, so the answer is about the endpoints and the present only.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from flowmap.attribute.questions import (
    CONFIDENCE,
    Owners,
    Place,
    Question,
    Shape,
    combine,
    connection_questions,
    state_of,
)
from flowmap.attribute.special.addresses import SpecialAddresses
from flowmap.config import Config, load, require_control_plane
from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
from flowmap.control.alibaba.control_plane import ask_owners, describe
from flowmap.daemon.clients import control_client
from flowmap.engine.factory import elsewhere, knows_loopback
from flowmap.errors import UNREACHED, ControlError, QueryError
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import DeploymentInfo, State, may_own
from flowmap.model.views import AttributionView, Evidence
from flowmap.serve.api.models import Attribution
from flowmap.system.names import run_loop

Answers = dict[Question, DeploymentsAnswer | ControlError]


def answer(arguments: argparse.Namespace) -> dict[str, Any]:
    """The attribution in the form of ``/api/v1/attribution``. ControlError if every question failed."""
    if arguments.at is not None:
        raise QueryError("--at: the control plane knows only the present; ask a daemon without --direct", field="at")
    if arguments.destination.port is None:
        raise QueryError("DST: the port is missing; --direct needs the port of the service", field="destination")
    config = load(arguments.config, os.environ)
    require_control_plane(config)
    if not config.control_plane.enabled:
        raise QueryError("--direct: open-source Flink is known to a daemon that reads it; ask without --direct")
    source, destination = (Address.parse(given.ip) for given in (arguments.source, arguments.destination))
    special = SpecialAddresses(loopback=knows_loopback(config), networks=config.attribute.deployment_networks)
    if cause := special.cause(source, destination, by_client=config.attribute.semantics != "dataflow"):
        view = AttributionView(State.UNKNOWN, (), (), None, cause)
        return Attribution.of(view).as_json()
    with run_loop() as runner:
        answers = runner.run(_ask_all(config, questions(config, arguments)))
    failures = [given for given in answers.values() if isinstance(given, ControlError)]
    if len(failures) == len(answers):
        raise failures[0]
    return Attribution.of(attribution_of(config, answers)).as_json()


def questions(config: Config, arguments: argparse.Namespace) -> list[Question]:
    """The questions about both endpoints in each namespace, under the configured semantics."""
    service = Endpoint(Address.parse(arguments.destination.ip), arguments.destination.port)
    places = (*(Place("", namespace) for namespace in config.control_plane.namespaces), *elsewhere(config))
    return connection_questions(config.attribute.semantics, places, Address.parse(arguments.source.ip), service)


async def _ask_all(config: Config, asked: Sequence[Question]) -> Answers:
    """Ask all questions. Once the control plane cannot be reached, the other questions fail without a call."""
    answers: Answers = {}
    unreached: ControlError | None = None
    async with control_client(config.control_plane) as client:
        for question in asked:
            if question.shape is Shape.HOST and not _names(answers, question):
                continue
            answers[question] = given = unreached or await ask(client, question)
            if isinstance(given, ControlError) and given.reason in UNREACHED:
                unreached = given
    return answers


def _names(answers: Answers, host: Question) -> bool:
    """Whether the ``source`` answer of the same place names a deployment, or failed."""
    source = next(given for one, given in answers.items() if one.shape is Shape.SOURCE and one.place == host.place)
    return isinstance(source, ControlError) or bool(source.deployments)


async def ask(client: ControlClient, question: Question) -> DeploymentsAnswer | ControlError:
    """Ask one question; returns the answer or the error."""
    try:
        return await ask_owners(client, question.workspace, question.namespace, question.source, question.destination)
    except ControlError as error:
        return error


def attribution_of(config: Config, answers: Answers) -> AttributionView:
    """Combine the answers into one attribution, by the rules of the daemon."""
    workspace = config.control_plane.workspace or ""
    named: dict[Question, list[DeploymentInfo]] = {}
    for question, given in answers.items():
        if not isinstance(given, ControlError) and not given.dropped:
            of = question.workspace or workspace, question.namespace
            infos = [describe(one, *of, given) for one in given.deployments]
            named[question] = [info for info in infos if may_own(info)]
    known: dict[Question, Owners | None] = {
        question: frozenset(info.owner for info in named[question]) if question in named else None
        for question in answers
    }
    evidence = tuple(_evidence(question, given, named.get(question, ())) for question, given in answers.items())
    owners = combine(config.attribute.semantics, known)
    if owners is None:
        return AttributionView(State.FAILED, (), evidence, None, "a required question got no usable answer")
    state = state_of(owners, config.attribute.owners_limit)
    by_owner = {info.owner: info for infos in named.values() for info in infos}
    deployments = tuple(by_owner[owner] for owner in sorted(owners)) if state is not State.AMBIGUOUS else ()
    return AttributionView(state, deployments, evidence, None)


def _evidence(question: Question, given: DeploymentsAnswer | ControlError, named: Sequence[DeploymentInfo]) -> Evidence:
    owners = tuple(info.owner for info in named)
    confidence = CONFIDENCE[question.shape]
    if isinstance(given, ControlError):
        return Evidence(str(question.shape), confidence, None, None, "none", error=f"{given.reason}: {given}")
    return Evidence(str(question.shape), confidence, given.asked_at, given.answered_at, "live", owners=owners)
