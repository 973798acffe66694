"""A directory without a catalog."""

from __future__ import annotations

from flowmap.engine.protocols import NoDirectory
from flowmap.model.deployment import DeploymentInfo, Owner


def test_answers_are_the_only_descriptions() -> None:
    directory, reported = NoDirectory(), DeploymentInfo(Owner("w", "ns", "id", "name"), labels={"a": "b"}, seen_at=5.0)
    before = directory.generation
    assert directory.describe(reported.owner.key, reported) is reported
    assert directory.describe(reported.owner.key, None) is None
    assert directory.generation == before
