"""Prints one attribution for people."""

from __future__ import annotations

from typing import Any

from flowmap.cli.output import text
from flowmap.cli.traffic.flows import endpoint


def print_answer(answer: dict[str, Any]) -> None:
    """Print the state, the deployments, the flow, and the evidence."""
    facts: list[tuple[object, object]] = [("state", answer["state"])]
    if answer.get("cause"):
        facts.append(("because", answer["cause"]))
    for deployment in answer["deployments"]:
        facts.append(("deployment", f"{deployment['name']} ({deployment['namespace']}, {deployment['deploymentId']})"))
        facts += [("  job", f"{job['jobId']} {job['status']}") for job in deployment["jobs"]]
        facts += [("  label", f"{name}={value}") for name, value in deployment["labels"].items()]
    flow = answer.get("flow")
    if flow:
        facts.append(("flow", f"{flow['protocol']} {endpoint(flow['client'])} -> {endpoint(flow['server'])}"))
        sent, received = text.amount(flow["transmitBytes"]), text.amount(flow["receiveBytes"])
        facts.append(("  bytes", f"{sent} sent, {received} received"))
        facts += [("  netns", flow["netns"])] if flow.get("netns") else []
        facts += [fact for key in ("local", "localServer") for fact in _local(flow.get(key))]
        facts += [_observation(one) for one in flow.get("observations", ())]
    for line in text.table(("", ""), facts, width=text.terminal_width())[1:]:
        print(line)
    if answer["evidence"]:
        print()
        header = ("QUESTION", "ANSWER", "CONFIDENCE", "ORIGIN", "RULE", "ANSWERED")
        text.print_table(header, [_evidence(piece) for piece in answer["evidence"]])


def _observation(one: dict[str, Any]) -> tuple[object, object]:
    """What one host of a fleet counted."""
    sent, received = text.amount(one["transmitBytes"]), text.amount(one["receiveBytes"])
    what = f"{one['host']}: {one['state']}, {sent} sent, {received} received ({one['counts']} bytes, {one['source']})"
    return f"  seen at {one['side'] or 'host'}", what


def _local(local: dict[str, Any] | None) -> list[tuple[object, object]]:
    """Facts about the container, unit and process at one endpoint."""
    if local is None:
        return []
    parts = ("container", "containerName", "runtime", "pod", "podName", "unit", "cgroup", "pid", "command")
    known = ", ".join(f"{part} {local[part]}" for part in parts if local[part] is not None)
    said = "; ".join(part for part in (known, local["unknown"]) if part)
    return [(f"  local {local['side']}", said or "unknown")]


def _evidence(piece: dict[str, Any]) -> tuple[object, ...]:
    names = ", ".join(owner["name"] for owner in piece.get("owners", ()))
    result = piece.get("error") or names or ("no deployment" if piece["answeredAt"] else None)
    return piece["shape"], result, piece["confidence"], piece["origin"], piece.get("rule") or None, piece["answeredAt"]
