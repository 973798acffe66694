"""The section ``history`` of the configuration."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from flowmap.config import values
from flowmap.config.fields import ClientTls, NetworkText, Section, Size, Span, distinct

StoreUrl = Annotated[str, AfterValidator(values.parse_job_manager)]


class ClickHouseConfig(Section):
    """The flows of all hosts in ClickHouse, as a copy of what each host's history has."""

    url: StoreUrl | None = Field(
        default=None,
        description="https://host[:port] of ClickHouse's HTTP interface. http:// only for loopback, or with insecure. "
        "null: flows stay on this host. Needs history.path.",
    )
    user: str = Field(default="default", min_length=1, description="User of the server.")
    password_file: str | None = Field(default=None, min_length=1, description="File with the password of the user.")
    database: str = Field(
        default="flowmap",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        max_length=64,
        description="Database with the tables that `flowmap fleet init` makes.",
    )
    tls: ClientTls = Field(default=ClientTls(), description="TLS, with https://.")
    insecure: bool = Field(default=False, description="Allow http:// to another host: addresses cross the network.")
    read: bool = Field(
        default=False,
        description="Answer questions about the past from here, with the connections of all hosts: the page, peers, "
        "lineage and flows of a time, who and query at a time. false: from history.path, with those of this host.",
    )
    host: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="Name of this host in the rows, different for each daemon. null: the host name of the system.",
    )
    network: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]*$",
        max_length=64,
        description="Name of the address space. Hosts in VPCs with the same addresses need different ones: "
        "only rows with the same name can be endpoints of one connection.",
    )
    local_networks: Annotated[tuple[NetworkText, ...], AfterValidator(distinct)] = Field(
        default=("172.17.0.0/16",),
        description="Networks that every host has for itself, besides loopback and link-local ones. Connections within "
        "them are never joined with those of another host.",
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.url is None:
            return self
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not (self.insecure or _is_loopback(parts.hostname or "")):
            raise ValueError(
                f"url {self.url}: every address would cross the network unencrypted; use https://, or insecure: "
                "true if the network is protected otherwise"
            )
        if parts.scheme == "http" and self.tls != ClientTls():
            raise ValueError("tls: needs a url with https://")
        return self


class HistoryConfig(Section):
    """Closed flows and ownership on disk, for queries about the past."""

    path: str | None = Field(default=None, min_length=1, description="SQLite file. null: no history.")
    retain: Span = Field(default=7 * 86400.0, description="Time that history is kept.")
    max_size: Size = Field(default=1 << 30, ge=1 << 20, description="Maximum size of the file.")
    clickhouse: ClickHouseConfig = Field(default=ClickHouseConfig(), description="The flows of all hosts in one place.")

    @model_validator(mode="after")
    def _has_spool(self) -> Self:
        if self.clickhouse.url is not None and self.path is None:
            raise ValueError("path: is missing: clickhouse.url sends what the history file has")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
