"""query --direct: ask the control plane itself, and show what each question returned.

Without a daemon nothing was observed, so this is what the control plane says of the two ends now.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from flowmap.attribute.questions import (
    CONFIDENCE,
    SHAPES,
    Owners,
    Place,
    Question,
    Shape,
    candidates,
    question_for,
    state_of,
)
from flowmap.attribute.special_addresses import SpecialAddresses
from flowmap.config import Config, load, require_control_plane
from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
from flowmap.control.alibaba.control_plane import describe
from flowmap.daemon.clients import control_client
from flowmap.engine.factory import elsewhere, knows_loopback
from flowmap.errors import UNREACHED, ControlError, QueryError
from flowmap.flows.endpoints import EndpointKey
from flowmap.model.address import Address, Endpoint, protocol_number
from flowmap.model.deployment import DeploymentInfo, State, may_own
from flowmap.model.views import AttributionView, Evidence
from flowmap.serve.api import answers as forms
from flowmap.system.names import run_loop

Answers = dict[Question, DeploymentsAnswer | ControlError]


def answer(arguments: argparse.Namespace) -> dict[str, Any]:
    """The answer in the form of ``/api/v1/attribution``. ControlError if no question was answered."""
    if arguments.at is not None:
        raise QueryError("--at: the control plane only knows the present; ask a daemon", field="at")
    if arguments.destination.port is None:
        raise QueryError("DST: the port of the service is needed to ask the control plane", field="destination")
    config = load(arguments.config, os.environ)
    require_control_plane(config)
    source, destination = (Address.parse(end.ip) for end in (arguments.source, arguments.destination))
    special = SpecialAddresses(loopback=knows_loopback(config))
    if cause := special.cause(source, destination, by_client=config.attribute.semantics != "dataflow"):
        view = AttributionView(State.UNKNOWN, (), (), None, cause)
        return forms.attribution(view).model_dump(mode="json", by_alias=True)
    with run_loop() as runner:
        answers = runner.run(_ask_all(config, questions(config, arguments)))
    failures = [given for given in answers.values() if isinstance(given, ControlError)]
    if len(failures) == len(answers):
        raise failures[0]
    return forms.attribution(combine(config, answers)).model_dump(mode="json", by_alias=True)


def questions(config: Config, arguments: argparse.Namespace) -> list[Question]:
    """What is asked under the configured reading of the API, for both ends, in each namespace."""
    protocol = protocol_number(arguments.protocol)
    client = EndpointKey(Address.parse(arguments.source.ip), 0, 0, False)
    service = EndpointKey(Address.parse(arguments.destination.ip), arguments.destination.port, protocol, True)
    return [
        question_for(place, shape, client if shape is Shape.CLIENT else service)
        for shape in SHAPES[config.attribute.semantics]
        for place in (*(Place("", namespace) for namespace in config.control_plane.namespaces), *elsewhere(config))
    ]


async def _ask_all(config: Config, asked: Sequence[Question]) -> Answers:
    """The answers. Where the control plane cannot be reached for one question, the others are not tried as long."""
    answers: Answers = {}
    unreached: ControlError | None = None
    async with control_client(config.control_plane) as client:
        for question in asked:
            answers[question] = given = unreached or await ask(client, question)
            if isinstance(given, ControlError) and given.reason in UNREACHED:
                unreached = given
    return answers


async def ask(client: ControlClient, question: Question) -> DeploymentsAnswer | ControlError:
    """What the control plane says to one question, or why it does not."""

    def ip(end: Endpoint | None) -> str | None:
        return str(end.address) if end else None

    def port(end: Endpoint | None) -> int | None:
        return end.port or None if end else None

    source, destination = question.source, question.destination
    client = client.of_workspace(question.workspace) if question.workspace else client
    try:
        return await client.get_deployments_by_ip(
            namespace=question.namespace,
            src_ip=ip(source),
            src_port=port(source),
            dst_ip=ip(destination),
            dst_port=port(destination),
        )
    except ControlError as error:
        return error


def combine(config: Config, answers: Answers) -> AttributionView:
    """The answers as one, by the rules the daemon has."""
    workspace = config.control_plane.workspace or ""
    by_shape: dict[Shape, Owners | None] = {}
    named: dict[Question, list[DeploymentInfo]] = {}
    for question, given in answers.items():
        seen = by_shape.get(question.shape, frozenset())
        if isinstance(given, ControlError) or seen is None or given.dropped:
            by_shape[question.shape] = None
            continue
        infos = [describe(one, question.workspace or workspace, question.namespace, given) for one in given.deployments]
        named[question] = [info for info in infos if may_own(info)]
        by_shape[question.shape] = seen | {info.owner for info in named[question]}
    evidence = tuple(_evidence(question, given, named.get(question, ())) for question, given in answers.items())
    owners = candidates(config.attribute.semantics, by_shape)
    if owners is None:
        return AttributionView(State.FAILED, (), evidence, None, "a question that matters got no usable answer")
    state = state_of(owners, config.attribute.owners_limit)
    known = {info.owner: info for infos in named.values() for info in infos}
    deployments = tuple(known[owner] for owner in sorted(owners)) if state is not State.AMBIGUOUS else ()
    return AttributionView(state, deployments, evidence, None)


def _evidence(question: Question, given: DeploymentsAnswer | ControlError, named: Sequence[DeploymentInfo]) -> Evidence:
    owners = tuple(info.owner for info in named)
    confidence = CONFIDENCE[question.shape]
    if isinstance(given, ControlError):
        return Evidence(str(question.shape), confidence, None, None, "none", error=f"{given.reason}: {given}")
    return Evidence(str(question.shape), confidence, given.asked_at, given.answered_at, "live", owners=owners)
