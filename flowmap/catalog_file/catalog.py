"""The catalog: deployments with their addresses, and the services they read and write.

It comes from a YAML or JSON file, from Python, or over an admin path of the sandbox. Field names are those of the API
(camel case) or in snake case. ConfigError names the place of an error.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from flowmap.config.yaml_file import YamlFile, read_yaml, text_problem
from flowmap.control.alibaba.api.models import Artifact, camel
from flowmap.errors import ConfigError

SIZE_LIMIT = 64 << 20
"""Bytes of a catalog file."""


class CatalogSemantics(StrEnum):
    """How the API reads ``srcIp`` and ``dstIp``. Its document allows both readings."""

    CONNECTION = "connection"
    """src is the TaskManager that connects, dst the service that it connects to."""
    DATAFLOW = "dataflow"
    """src is a service that a job reads from, dst one that it writes to."""
    BOTH = "both"
    """The union of the two."""


class ServiceEndpoint(NamedTuple):
    """An endpoint that a job reads from or writes to. ``port`` None: any port."""

    ip: str
    port: int | None


def normal_ip(text: object) -> str:
    """An address in canonical form. IPv4-mapped IPv6 becomes IPv4."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not an IP address; write it as text in quotes")
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parse_service_endpoint(value: object) -> object:
    """Parse ``10.0.0.1:9092``, ``[2001:db8::1]:9092``, or an address alone for any port."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return ServiceEndpoint(normal_ip(value.strip("[]")), None)
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not ip:port")
    return ServiceEndpoint(normal_ip(host.strip("[]")), int(port))


def _epoch(value: object) -> object:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return value


def _artifact(value: object) -> object:
    return Artifact.model_validate(value) if isinstance(value, dict) else value


ApiArtifact = Annotated[Artifact, BeforeValidator(_artifact)]
"""An artifact in the form of the API."""

Ip = Annotated[str, BeforeValidator(normal_ip)]
ServiceEndpointField = Annotated[ServiceEndpoint, BeforeValidator(parse_service_endpoint)]
Moment = Annotated[float, BeforeValidator(_epoch)]
"""Seconds since the epoch. A file may also have ``2026-01-31T08:00:00Z``."""


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=camel, validate_by_name=True, validate_by_alias=True
    )


class AddressEntry(_Entry):
    """An address of a TaskManager, valid always or for ``since`` <= t < ``until``."""

    ip: Ip
    since: Moment | None = None
    until: Moment | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"ip": value} if isinstance(value, str) else value

    def holds(self, now: float) -> bool:
        """Whether the address is valid at ``now``."""
        return (self.since is None or self.since <= now) and (self.until is None or now < self.until)


class ConnectionEntry(_Entry):
    """A connection, by its client endpoint and its server endpoint."""

    client: ServiceEndpointField
    server: ServiceEndpointField


class JobEntry(_Entry):
    """A job of a deployment."""

    id: str = Field(min_length=1)
    status: str = "RUNNING"
    start_time: Moment = 1_700_000_000.0
    end_time: Moment | None = None


class DeploymentEntry(_Entry):
    """A deployment with its addresses, services and connections."""

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    namespace: str = "default-namespace"
    labels: Mapping[str, str | int] = Field(default_factory=dict)
    description: str = ""
    engine_version: str = "vvr-8.0.9-flink-1.17"
    execution_mode: str = "STREAMING"
    creator: str = "270000000000000001"
    creator_name: str = "sandbox"
    modifier: str = "270000000000000001"
    created_at: Moment = 1_700_000_000.0
    modified_at: Moment = 1_700_000_000.0
    artifact: ApiArtifact = Artifact(kind="SQLSCRIPT")
    jobs: tuple[JobEntry, ...] = ()
    addresses: tuple[AddressEntry, ...] = ()
    reads: tuple[ServiceEndpointField, ...] = ()
    writes: tuple[ServiceEndpointField, ...] = ()
    connections: tuple[ConnectionEntry, ...] = ()
    """Connections with known client port. They narrow an exact question."""


class PackageJobEntry(_Entry):
    """A job of the legacy Blink product that uses packages."""

    id: str = Field(min_length=1)
    name: str = ""
    project: str = Field(min_length=1)
    packages: tuple[str, ...] = ()
    api_type: str = "DATASTREAM"
    job_type: str = "FLINK_STREAM"
    cluster_id: str = "sandbox"
    queue_name: str = "root.sandbox"
    engine_version: str = "blink-3.4.4"
    creator: str = "270000000000000001"
    create_time: Moment = 1_551_161_842.0
    modify_time: Moment = 1_583_722_910.0


class CatalogFile(_Entry):
    """A whole catalog."""

    workspace: str = "sandbox"
    namespaces: tuple[str, ...] = ("default-namespace",)
    semantics: CatalogSemantics = CatalogSemantics.BOTH
    deployments: tuple[DeploymentEntry, ...] = ()
    blink_jobs: tuple[PackageJobEntry, ...] = ()
    """The jobs of the legacy operation."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[str] = set()
        for entry in self.deployments:
            if entry.id in seen:
                raise ValueError(f"deployment id {entry.id!r} occurs twice")
            if entry.namespace not in self.namespaces:
                raise ValueError(f"deployment {entry.id!r}: namespace {entry.namespace!r} is not in namespaces")
            seen.add(entry.id)
        return self


def parse_catalog(value: object, *, origin: str = "catalog", file: YamlFile | None = None) -> CatalogFile:
    """Check a catalog; ConfigError names ``origin``, the line if ``file`` is what it was read from, and the key."""
    if isinstance(value, CatalogFile):
        return value
    try:
        return CatalogFile.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = tuple(part for part in first["loc"] if not str(part).startswith("function-"))
        line = file.line(key) if file is not None else None
        where = f"{origin}:{line}" if line else origin
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "string_type":
            message = text_problem(first["input"]) or message
        raise ConfigError(f"{where}: {'.'.join(map(str, key)) or 'the catalog'}: {message}") from error


def load_catalog(path: Path) -> CatalogFile:
    """Read a catalog file, YAML or JSON; ConfigError names the line."""
    file = read_yaml(str(path), largest=SIZE_LIMIT)
    if file.repeated:
        key = file.repeated[0]
        raise ConfigError(f"{path}:{file.line(key)}: {'.'.join(map(str, key))}: given twice")
    return parse_catalog({} if file.value is None else file.value, origin=str(path), file=file)


def example_catalog() -> CatalogFile:
    """Four deployments on loopback addresses: a reader, a writer, and two that share a service."""
    kafka, mysql, redis = "127.0.2.1:9092", "127.0.2.2:3306", "127.0.2.3:6379"
    rows: Sequence[tuple[str, str, str, list[str], list[str], dict[str, str | int]]] = (
        ("00000000-0000-0000-0000-000000000001", "orders-ingest", "127.0.1.1", [mysql], [kafka], {"team": "orders"}),
        ("00000000-0000-0000-0000-000000000002", "fraud-detection", "127.0.1.2", [kafka], [redis], {"team": "risk"}),
        ("00000000-0000-0000-0000-000000000003", "orders-report", "127.0.1.3", [kafka], [mysql], {"team": "orders"}),
        ("00000000-0000-0000-0000-000000000004", "cache-warmup", "127.0.1.4", [redis], [], {"team": "risk", "tier": 2}),
    )
    return CatalogFile.model_validate(
        {
            "deployments": [
                {
                    "id": identity,
                    "name": name,
                    "labels": labels,
                    "addresses": [address],
                    "reads": reads,
                    "writes": writes,
                    "jobs": [{"id": f"job-{name}", "status": "RUNNING"}],
                }
                for identity, name, address, reads, writes, labels in rows
            ]
        }
    )
