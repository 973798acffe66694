"""A running sandbox with two namespaces, and commands that are asked to talk to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli import command
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET
from tests.support.sandbox import RunningSandbox

LOG4J = "https://bucket-1.oss-cn-hangzhou.aliyuncs.com/lib/log4j-core-2.14.jar?Signature=secret%2B"


def deployment(identity: str, namespace: str, *files: str, jobs: int = 0, **more: Any) -> dict[str, Any]:
    """A deployment of the catalog that runs the first of ``files`` with the others."""
    artifact = {"kind": "JAR", "jarArtifact": {"jarUri": "".join(files[:1]), "additionalDependencies": list(files[1:])}}
    return {
        "id": identity,
        "name": f"name-{identity}",
        "namespace": namespace,
        "jobs": [{"id": f"{identity}-j{run}", "status": "RUNNING" if run == 0 else "FAILED"} for run in range(jobs)],
        **({"artifact": artifact} if files else {}),
        **more,
    }


CATALOG: dict[str, Any] = {
    "workspace": "w",
    "namespaces": ["orders", "risk"],
    "deployments": [
        deployment(
            "d1",
            "orders",
            "oss://bucket-1/ingest.jar",
            LOG4J,
            jobs=2,
            labels={"team": "orders"},
            addresses=["10.0.0.1"],
            writes=["10.1.0.1:9092"],
        ),
        deployment("d2", "orders", "oss://bucket-1/report.jar", labels={"team": "billing"}, addresses=["10.0.0.2"]),
        deployment("d3", "risk", "oss://bucket-2/log4j-core-2.14.jar", jobs=1, addresses=["10.0.0.1"]),
    ],
    "blinkJobs": [
        {"id": "b1", "name": "old", "project": "legacy", "packages": ["log4j-core-2.14.jar", "x.jar"]},
        {"id": "b2", "name": "other", "project": "elsewhere", "packages": ["log4j-core-2.14.jar"]},
    ],
}


@dataclass
class Shell:
    """Runs commands against a sandbox."""

    sandbox: RunningSandbox
    directory: Path
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def config(self, **changes: Any) -> Path:
        """A configuration that asks the sandbox; ``changes`` are keys of ``control_plane``."""
        plane = {
            "endpoint": self.sandbox.url,
            "region": "cn-hangzhou",
            "workspace": "w",
            "namespaces": ["orders", "risk"],
            "credentials": {"access_key_id": ACCESS_KEY_ID, "access_key_secret": ACCESS_KEY_SECRET},
            "rate": 1000,
            "burst": 1000,
        }
        file = self.directory / "flowmap.yaml"  # JSON is YAML
        file.write_text(json.dumps({"control_plane": plane | changes}))
        return file

    def run(self, *words: str, settings: Mapping[str, Any] | None = None) -> int:
        """The exit status; what was said is kept."""
        status = command.main([*words, "-c", str(self.config(**(settings or {})))])
        self.out, self.err = self.capsys.readouterr()
        return status

    def table(self, *words: str, settings: Mapping[str, Any] | None = None) -> list[list[str]]:
        """The cells of a table, a list a line. The command must succeed."""
        assert self.run(*words, "-o", "table", settings=settings) == 0, self.err
        return [line.split() for line in self.out.splitlines()]

    def json(self, *words: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON that was printed. The command must succeed."""
        assert self.run(*words, "-o", "json", settings=settings) == 0, self.err
        answer: dict[str, Any] = json.loads(self.out)
        return answer

    def asked(self) -> dict[str, int]:
        """Calls the sandbox answered, by operation."""
        counts: dict[str, int] = {}
        for (operation, _), count in self.sandbox.counts.items():
            counts[operation] = counts.get(operation, 0) + count
        return counts
