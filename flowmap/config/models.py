"""The configuration, one model a section. Descriptions are the documentation: the table of config/README.md, the
comments of config/flowmap.yaml and the JSON Schema are made from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from flowmap.config import values
from flowmap.config.control_plane import ControlPlaneConfig
from flowmap.config.fields import (
    AT_ONCE,
    NEW_FLOWS,
    NEW_NAMES,
    NEXT_ANSWER,
    NEXT_READ,
    CaptureFilter,
    Duration,
    InterfaceName,
    Label,
    Listen,
    Pattern,
    PeerName,
    Section,
    Service,
    Size,
    Span,
    distinct,
    some,
)
from flowmap.config.web import Access, TlsServer, Users


class ConntrackConfig(Section):
    """The kernel's connection tracking table (needs CAP_NET_ADMIN)."""

    resync: Annotated[Span, NEXT_READ] = Field(
        default=30.0, description="How often the whole table is read, whatever the events said."
    )
    receive_buffer: Size = Field(
        default=64 << 20,
        ge=64 << 10,
        le=(1 << 31) - 1,
        description="Socket buffer for events; overrunning it costs a full read.",
    )
    enable_accounting: bool = Field(
        default=False,
        description="Set net.netfilter.nf_conntrack_acct=1 at start; without it the kernel counts no bytes.",
    )


class SocketsConfig(Section):
    """This host's TCP sockets (needs no privilege)."""

    interval: Annotated[Span, NEXT_READ] = Field(
        default=5.0, description="How often open sockets are read; closed ones report themselves."
    )


class CaptureConfig(Section):
    """Packets from the wire (needs CAP_NET_RAW)."""

    interfaces: Annotated[tuple[InterfaceName, ...], AfterValidator(distinct)] = Field(
        default=(),
        max_length=128,
        description="Interfaces to listen on, by name or alternative name; any, or empty: all.",
    )
    ring: Size = Field(default=64 << 20, ge=1 << 20, le=(1 << 31) - 1, description="Ring shared with the kernel.")
    snap: int = Field(
        default=128, ge=64, le=65535, description="Bytes kept of each packet; at least 256 where tunnels are opened."
    )
    filter: CaptureFilter = Field(
        default="", max_length=4096, description="Filter in tcpdump's language (not vlan); needs libpcap."
    )
    tunnels: Literal["outer", "inner"] = Field(
        default="outer",
        description="VXLAN, Geneve, GRE and IP in IP: outer counts the flow of the tunnel, inner the flows inside.",
    )

    @property
    def listened_on(self) -> tuple[str, ...]:
        """Interfaces by name; none of them: all."""
        return () if "any" in self.interfaces else self.interfaces

    @property
    def kept(self) -> int:
        """Bytes to keep of each packet: the headers of a tunnel and of what is inside are longer than others."""
        return max(self.snap, 256) if self.tunnels == "inner" else self.snap


class CollectConfig(Section):
    """Where connections are read from, and which of them count."""

    source: Literal["auto", "conntrack", "sockets", "capture", "replay"] = Field(
        default="auto",
        description="auto takes conntrack where it is permitted, tracks and counts bytes, with the health of TCP from "
        "the socket table; else the socket table; else packets, if collect.capture.interfaces names some.",
    )
    include: Annotated[tuple[Pattern, ...], NEW_FLOWS] = Field(
        default=(),
        description='Flows that count: "10.0.0.0/8" (either end), "10.1.0.0/16:3306" (service end), "tcp/9092". '
        "A network covers addresses of its own family only: ::/0 is all of IPv6. Empty: all.",
    )
    exclude: Annotated[tuple[Pattern, ...], NEW_FLOWS] = Field(
        default=(), description="Flows that do not count, in the same form; wins over include."
    )
    conntrack: ConntrackConfig = Field(default=ConntrackConfig(), description="The connection tracking table.")
    sockets: SocketsConfig = Field(default=SocketsConfig(), description="The socket table.")
    capture: CaptureConfig = Field(default=CaptureConfig(), description="Packets.")
    max_flows: int = Field(default=1_000_000, ge=1, le=100_000_000, description="Flows tracked at one time.")

    @field_validator("source")
    @classmethod
    def _daemon_reads(cls, source: str) -> str:
        if source == "replay":
            raise ValueError("a file is read with `flowmap replay FILE`, not by the daemon")
        return source


class AttributeConfig(Section):
    """How an owner is found, and when an answer counts."""

    semantics: Literal["connection", "dataflow", "both"] = Field(
        default="both",
        description="Reading of the API's src and dst: ends of a connection, where a job reads and writes, or both.",
    )
    confirm: Annotated[Literal["strict", "fast"], NEXT_ANSWER] = Field(
        default="strict",
        description="strict: a name needs an answer about the flow's own lifetime; fast: a cached answer will do.",
    )
    grace: Annotated[Duration, NEXT_ANSWER] = Field(
        default=2.0,
        description="An address is taken not to change hands within this time of a flow's start; 0s: assume nothing.",
    )
    nat: Literal["translated", "original"] = Field(
        default="translated",
        description="The service end that is asked about where NAT changed it: translated, the one that really "
        "answers, or original, the one the client called. The client is always the one before NAT.",
    )
    owners_limit: Annotated[int, NEXT_ANSWER] = Field(
        default=4, ge=1, le=100, description="More owners than this and the flow is ambiguous."
    )
    tie_wait: Duration = Field(
        default=60.0,
        description="How long an open flow with several possible owners stays pending while both its ends are asked "
        "about together; 0s: it is shared at once.",
    )
    cache_size: int = Field(default=100_000, ge=1, le=10_000_000, description="Questions whose answers are kept.")
    positive_ttl: Annotated[Span, NEXT_ANSWER] = Field(
        default=60.0, description="A question that named someone is asked again after this."
    )
    negative_ttl: Annotated[Span, NEXT_ANSWER] = Field(default=30.0, description="The same for one that named nobody.")
    stale_for: Annotated[Duration, AT_ONCE] = Field(
        default=600.0, description="How long an old answer serves while the API fails."
    )
    give_up_after: Annotated[Span, AT_ONCE] = Field(
        default=3600.0, description="Flows that wait longer for their answer become failed."
    )


class ExportConfig(Section):
    """The series in /metrics."""

    labels: Annotated[tuple[Label, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("namespace", "deployment_id", "deployment", "peer", "protocol"),
        description="Labels of a deployment's traffic; also possible: workspace.",
    )
    peers: Annotated[dict[PeerName, Annotated[tuple[Service, ...], AfterValidator(some)]], NEW_NAMES] = Field(
        default={}, description='Names for service ends: {orders: ["10.100.2.0/24:9092"]}. Others are called ip:port.'
    )
    deployment_labels: Annotated[tuple[str, ...], AfterValidator(distinct), AT_ONCE] = Field(
        default=(), description="Deployment labels copied to flowmap_deployment_info as label_<key>."
    )
    max_series: int = Field(
        default=10_000, ge=1, le=10_000_000, description='Series of traffic; what exceeds it goes to peer "other".'
    )
    idle_after: Annotated[Span, AT_ONCE] = Field(
        default=600.0, description="A series without open flows or traffic for this time leaves."
    )


class HistoryConfig(Section):
    """What was true when, kept on disk."""

    path: str | None = Field(default=None, min_length=1, description="SQLite file; null: no history.")
    retain: Span = Field(default=7 * 86400.0, description="How long it is kept.")
    max_size: Size = Field(default=1 << 30, ge=1 << 20, description="Largest size of the file.")


class HttpConfig(Section):
    """The HTTP server."""

    listen: Listen = Field(
        default=values.Listen("127.0.0.1", 10817), description="Address and port; 0 takes a free one."
    )
    insecure: bool = Field(
        default=False, description="Listen on an address that is not loopback without TLS and without users."
    )
    tls: TlsServer | None = Field(
        default=None,
        description="{cert_file: …, key_file: …} and the other keys of tls_server_config; null: plain HTTP.",
    )
    users: Users | None = Field(
        default=None, description="Users and bcrypt hashes of their passwords, {NAME: HASH}; null: no login."
    )
    web_config: str | None = Field(
        default=None,
        min_length=1,
        description="File in the web configuration format of Prometheus exporters, instead of tls and users.",
    )
    access: Access = Field(default=Access(), description="Who may scrape, and who may query.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description='Host names a request may be addressed to, besides IP addresses and localhost; "*": any.',
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.web_config is not None and (self.tls is not None or self.users is not None):
            raise ValueError("give web_config, or tls and users, not both")
        if self.users == {}:
            raise ValueError("users: give at least one, or null for no login")
        if self.web_config is None:  # else the file must be read first
            self.check_guard(self.tls is not None, self.users or {})
        return self

    def check_guard(self, tls: bool, users: Iterable[str]) -> None:
        """ValueError if other hosts could reach what nothing guards, or access names someone there is not."""
        if not (tls or list(users) or self.insecure or self.listen.is_loopback):
            raise ValueError(
                f"listen {self.listen}: other hosts could see every connection; set tls or users (or web_config), "
                "or insecure: true if something else keeps them out"
            )
        strangers = self.access.strangers(users)
        if strangers:
            raise ValueError(f"access: there is no user {', '.join(map(repr, strangers))}")


class LogConfig(Section):
    """What the daemon says about itself, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level shown.")
    format: Literal["auto", "text", "logfmt", "json"] = Field(
        default="auto", description="text, logfmt or json; auto: text on a terminal and in the journal, else json."
    )


class Config(Section):
    """Everything that can be configured."""

    control_plane: ControlPlaneConfig = Field(default=ControlPlaneConfig(), description="Who is asked.")
    collect: CollectConfig = Field(default=CollectConfig(), description="Where connections are read from.")
    attribute: AttributeConfig = Field(default=AttributeConfig(), description="How an owner is found.")
    export: ExportConfig = Field(default=ExportConfig(), description="The series in /metrics.")
    history: HistoryConfig = Field(default=HistoryConfig(), description="The past.")
    http: HttpConfig = Field(default=HttpConfig(), description="The HTTP server.")
    log: Annotated[LogConfig, AT_ONCE] = Field(default=LogConfig(), description="Logging.")

    @property
    def excluded(self) -> tuple[str, ...]:
        """Patterns of flows that do not count: ``collect.exclude``, and flowmap's own connections over loopback.

        Those are scrapes, queries, and calls of a control plane on loopback.
        """
        endpoint = self.control_plane.endpoint
        ports = (self.http.listen.port, values.loopback_port(endpoint) if endpoint else None)
        own = (pattern for port in ports if port for pattern in (f"127.0.0.0/8:{port}", f"[::1]:{port}"))
        return (*self.collect.exclude, *own)
