"""The table of faults in tests/README.md, from the rows and from what ``python -m tests.faults`` found."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.rows import ELSEWHERE, ROWS

RESULTS = Path(__file__).parents[1] / "data" / "faults.json"


def faults_markdown() -> str:
    """A row for each fault; those that other tests make come last."""
    costs = json.loads(RESULTS.read_text())
    lines = [
        "| fault | what was done | bytes lost | connections without their name | wrong names |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        cost = costs[row.name]
        lost = f"{cost['lost']:,} of {cost['bytes']:,}" + (f": {row.loses}" if cost["lost"] else "")
        unnamed = f"{cost['unnamed']:,} of {cost['connections']:,}" + (
            f": {row.nameless}" if row.nameless and cost["unnamed"] else ""
        )
        lines.append(f"| {row.name} | {row.done} | {lost} | {unnamed} | {cost['wrong']} |")
    for other in ELSEWHERE:
        path, _, name = other.test.partition("::")
        lines.append(
            f"| {other.name} | {other.done} | | | `{name}` in [{Path(path).name}]({path.removeprefix('tests/')}) |"
        )
    return "\n".join(lines)
