"""A catalog whose deployments all have one address, and who a control plane says has it."""

from __future__ import annotations

from typing import Any

from tests.support.control_clients import NAMESPACE, ask


def catalog(*names: str) -> dict[str, Any]:
    return {"deployments": [{"id": name, "name": name, "addresses": ["10.0.0.1"]} for name in names]}


def found(url: str) -> list[str | None]:
    answer = ask(url, lambda client: client.get_deployments_by_ip(namespace=NAMESPACE, src_ip="10.0.0.1"))
    return [deployment.name for deployment in answer.deployments]
