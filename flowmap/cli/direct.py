"""query --direct: ask the control plane itself, and show what each question returned.

Without a daemon nothing was observed, so this is what the control plane says of the two ends now.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from typing import Any

from flowmap.attribute.questions import SHAPES, Owners, Question, Shape, candidates, question_for, state_of
from flowmap.attribute.view import Owner
from flowmap.cli import options, text
from flowmap.config import Config, load, require_control_plane
from flowmap.control.client import ControlClient, DeploymentsAnswer
from flowmap.control.credentials import StaticCredentials
from flowmap.control.endpoint import endpoint_of_region
from flowmap.control.models import Deployment
from flowmap.errors import ControlError, QueryError
from flowmap.flows.address import Address, protocol_number
from flowmap.flows.ends import End

Answers = dict[Question, DeploymentsAnswer | ControlError]


def control_client(config: Config) -> ControlClient:
    """A client of the configured control plane. ConfigError or AuthError if it cannot be made."""
    plane, key = config.control_plane, config.control_plane.credentials
    token = key.security_token.get_secret_value() if key.security_token else None
    secret = key.access_key_secret.get_secret_value() if key.access_key_secret else None
    return ControlClient(
        endpoint=plane.endpoint or endpoint_of_region(plane.region or "").url,
        workspace=plane.workspace or "",
        credentials=StaticCredentials(key.access_key_id or "", secret, token),
        timeout=plane.timeout,
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask, combine as the daemon would, and print. Exit status as of ``query``."""
    from flowmap.cli.query import EXIT_UNNAMED, NAMED, print_answer

    if arguments.at is not None:
        raise QueryError("--at: the control plane only knows the present; ask a daemon", field="at")
    if arguments.destination.port is None:
        raise QueryError("DST: the port of the service is needed to ask the control plane", field="destination")
    config = load(arguments.config, os.environ)
    require_control_plane(config)
    answers = asyncio.run(ask(config, questions(config, arguments)))
    failures = [answer for answer in answers.values() if isinstance(answer, ControlError)]
    if len(failures) == len(answers):
        raise failures[0]
    answer = combine(config, answers)
    if options.wants_table(arguments):
        print_answer(answer)
    else:
        text.print_json(answer)
    return 0 if answer["state"] in NAMED else EXIT_UNNAMED


def questions(config: Config, arguments: argparse.Namespace) -> list[Question]:
    """What is asked under the configured reading of the API, for both ends, in each namespace."""
    protocol = protocol_number(arguments.protocol)
    client = End(Address.parse(arguments.source.ip), 0, 0, False)
    service = End(Address.parse(arguments.destination.ip), arguments.destination.port, protocol, True)
    return [
        question_for(namespace, shape, client if shape is Shape.CLIENT else service)
        for shape in SHAPES[config.attribute.semantics]
        for namespace in config.control_plane.namespaces
    ]


async def ask(config: Config, asked: list[Question]) -> Answers:
    """The answer to each question, or why there is none."""
    answers: Answers = {}
    async with control_client(config) as client:
        for question in asked:
            source, destination = question.source, question.destination
            try:
                answers[question] = await client.get_deployments_by_ip(
                    namespace=question.namespace,
                    src_ip=str(source.address) if source else None,
                    src_port=source.port or None if source else None,
                    dst_ip=str(destination.address) if destination else None,
                    dst_port=destination.port or None if destination else None,
                )
            except ControlError as error:
                answers[question] = error
    return answers


def combine(config: Config, answers: Answers) -> dict[str, Any]:
    """The answers as one, in the form of ``/api/v1/attribution``."""
    by_shape: dict[Shape, Owners | None] = {}
    described: dict[Owner, Deployment] = {}
    evidence = []
    for question, answer in answers.items():
        named = {} if isinstance(answer, ControlError) else _owners(config, question, answer)
        described |= named
        seen = by_shape.get(question.shape, frozenset())
        unknown = isinstance(answer, ControlError) or seen is None
        by_shape[question.shape] = None if unknown or seen is None else seen | named.keys()
        evidence.append(_evidence(question, answer, named))
    owners = candidates(config.attribute.semantics, by_shape)
    state = "failed" if owners is None else str(state_of(owners, config.attribute.owners_limit))
    named_here = sorted(owners or ()) if state in ("attributed", "shared") else []
    return {
        "state": state,
        "deployments": [_deployment(owner, described[owner]) for owner in named_here],
        "evidence": evidence,
        "flow": None,
        "cause": "a question that matters got no answer" if owners is None else None,
    }


def _owners(config: Config, question: Question, answer: DeploymentsAnswer) -> Mapping[Owner, Deployment]:
    workspace = config.control_plane.workspace or ""
    return {
        Owner(workspace, question.namespace, found.deployment_id, found.name or ""): found
        for found in answer.deployments
    }


def _evidence(
    question: Question, answer: DeploymentsAnswer | ControlError, named: Mapping[Owner, Deployment]
) -> dict[str, Any]:
    from flowmap.serve.models import rfc3339

    failed = isinstance(answer, ControlError)
    return {
        "shape": str(question.shape),
        "confidence": "strong" if question.shape is Shape.CLIENT else "candidate",
        "askedAt": None if isinstance(answer, ControlError) else rfc3339(answer.asked_at),
        "answeredAt": None if isinstance(answer, ControlError) else rfc3339(answer.answered_at),
        "origin": "none" if failed else "live",
        "rule": "",
        "owners": [_name(owner) for owner in named],
        "error": str(answer) if failed else None,
    }


def _name(owner: Owner) -> dict[str, str]:
    return {
        "workspace": owner.workspace,
        "namespace": owner.namespace,
        "deploymentId": owner.deployment_id,
        "name": owner.name,
    }


def _deployment(owner: Owner, found: Deployment) -> dict[str, Any]:
    return {**_name(owner), "jobs": [], "labels": dict(found.labels or {})}
