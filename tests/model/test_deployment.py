"""Identity of deployments."""

from __future__ import annotations

from flowmap.model.deployment import DeploymentKey, Owner


def test_a_renamed_deployment_has_the_same_key() -> None:
    owner = Owner("w", "ns", "id", "name")
    assert owner.key == owner._replace(name="renamed").key == DeploymentKey("w", "ns", "id")
    assert owner.key != owner._replace(workspace="v").key
