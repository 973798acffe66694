"""A catalog for a control plane whose deployments read from and write to known services."""

from __future__ import annotations

from typing import Any

TASK_MANAGER, KAFKA, MYSQL = "10.0.0.1", "10.1.0.1:9092", "10.1.0.2:3306"


SOURCE = f"{TASK_MANAGER}:40001"


def entry(name: str, address: str, *, status: str = "RUNNING", **ends: list[str]) -> dict[str, Any]:
    jobs = [{"id": f"job-{name}", "status": status}]
    return {"id": name, "name": f"name-{name}", "namespace": "orders", "addresses": [address], "jobs": jobs, **ends}


def catalog(semantics: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"workspace": "w", "namespaces": ["orders", "risk"], "semantics": semantics, "deployments": list(entries)}
