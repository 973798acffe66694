"""Attributions as a daemon answers them."""

from __future__ import annotations

from typing import Any


def answer(state: str, *names: str, observed: bool = True) -> dict[str, Any]:
    deployments = [{"workspace": "w", "namespace": "ns", "deploymentId": f"id-{name}", "name": name} for name in names]
    return {"state": state, "observed": observed, "deployments": deployments, "cause": None, "flow": None}
