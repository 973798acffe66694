"""The models of the configuration, one for each section.

The table of config/README.md, the comments of config/flowmap.yaml and the JSON Schema are generated from the
descriptions.
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
    CgroupPath,
    Duration,
    InterfaceName,
    Label,
    Listen,
    NetworkNamespaces,
    NetworkText,
    Pattern,
    PeerName,
    Section,
    Service,
    Size,
    Span,
    at_most,
    distinct,
    some,
)
from flowmap.config.fleet import FleetConfig
from flowmap.config.flink import FlinkConfig
from flowmap.config.history import HistoryConfig
from flowmap.config.web import Access, TlsServer, Users


class ConntrackConfig(Section):
    """Source conntrack: the kernel's connection tracking table (needs CAP_NET_ADMIN)."""

    resync: Annotated[Span, NEXT_READ] = Field(
        default=30.0,
        description="Longest pause between full reads of the table, besides the events. While they take less than 2 % "
        "of a core, it is shorter, down to 2s.",
    )
    receive_buffer: Size = Field(
        default=64 << 20,
        ge=64 << 10,
        le=(1 << 31) - 1,
        description="Socket buffer for events. An overrun of it causes a full read.",
    )
    enable_accounting: bool = Field(
        default=False,
        description="Set net.netfilter.nf_conntrack_acct=1 at start. Without it the kernel counts no bytes.",
    )


class CgroupsConfig(Section):
    """Which sockets count, by their cgroup and those above it; * is any part of a name. An unknown cgroup counts."""

    include: Annotated[tuple[CgroupPath, ...], NEW_FLOWS] = Field(
        default=(), description='Cgroups that count: ["/kubepods.slice"]. Empty: all.'
    )
    exclude: Annotated[tuple[CgroupPath, ...], NEW_FLOWS] = Field(
        default=(), description='Cgroups that do not count: ["/system.slice/sshd.service"]. Takes precedence.'
    )


class SocketsConfig(Section):
    """Source sockets: the TCP sockets of this host (needs no privilege)."""

    interval: Annotated[Span, NEXT_READ] = Field(
        default=5.0,
        description="Longest pause between reads of open sockets. While they take less than 2 % of a core, it is "
        "shorter, down to 2s. The kernel reports closed sockets at once.",
    )
    cgroups: CgroupsConfig = Field(
        default=CgroupsConfig(), description="Which cgroups count. No effect where conntrack counts."
    )
    processes: Literal["auto", "all", "off"] = Field(
        default="auto",
        description="auto: find the process of each open socket, as far as flowmap may read it without a capability. "
        "all: keep CAP_SYS_PTRACE, if granted, to read those of all users. off: do not search.",
    )


class CaptureConfig(Section):
    """Source capture: packets of network interfaces (needs CAP_NET_RAW)."""

    interfaces: Annotated[tuple[InterfaceName, ...], AfterValidator(distinct)] = Field(
        default=(),
        max_length=128,
        description="Interfaces to capture on, by name or alternative name. any, or empty: all.",
    )
    ring: Size = Field(
        default=64 << 20, ge=1 << 20, le=(1 << 31) - 1, description="Size of the ring buffer shared with the kernel."
    )
    snap: int = Field(
        default=128, ge=64, le=65535, description="Bytes captured of each packet, at least 256 with tunnels: inner."
    )
    filter: CaptureFilter = Field(
        default="", max_length=4096, description="Filter in the syntax of tcpdump (without vlan). Needs libpcap."
    )
    tunnels: Literal["outer", "inner"] = Field(
        default="outer",
        description="For VXLAN, Geneve, GRE and IP in IP: outer counts the flow of the tunnel, inner the flows inside.",
    )

    @property
    def listened_on(self) -> tuple[str, ...]:
        """Names of the interfaces; empty: all."""
        return () if "any" in self.interfaces else self.interfaces

    @property
    def kept(self) -> int:
        """Bytes to capture of each packet. The headers of a tunnel and of the packet inside need at least 256."""
        return max(self.snap, 256) if self.tunnels == "inner" else self.snap


class CollectConfig(Section):
    """Sources of connections, and which connections count."""

    source: Literal["auto", "conntrack", "sockets", "capture", "replay"] = Field(
        default="auto",
        description="auto: conntrack if it is permitted, active and counts bytes, with TCP health from the socket "
        "table; otherwise sockets; otherwise capture, if collect.capture.interfaces is set.",
    )
    include: Annotated[tuple[Pattern, ...], NEW_FLOWS] = Field(
        default=(),
        description='Flows that count: "10.0.0.0/8" (either endpoint), "10.1.0.0/16:3306" (server endpoint), '
        '"tcp/9092". A network matches its own address family only: ::/0 is all of IPv6. Empty: all.',
    )
    exclude: Annotated[tuple[Pattern, ...], NEW_FLOWS] = Field(
        default=(), description="Flows that do not count, in the same form. Takes precedence over include."
    )
    namespaces: NetworkNamespaces = Field(
        default="host",
        description="Network namespaces to read with auto, sockets or conntrack. host: the daemon's own. all: also all "
        'others of this host. ["blue", "/run/netns/blue"]: also these, by name or path. Needs `flowmap opener`.',
    )
    opener: str = Field(
        default="/run/flowmap/opener.sock", min_length=1, max_length=107, description="Socket of `flowmap opener`."
    )
    conntrack: ConntrackConfig = Field(default=ConntrackConfig(), description="Source conntrack.")
    sockets: SocketsConfig = Field(default=SocketsConfig(), description="Source sockets.")
    capture: CaptureConfig = Field(default=CaptureConfig(), description="Source capture.")
    max_flows: int = Field(default=1_000_000, ge=1, le=100_000_000, description="Maximum number of flows in the table.")

    @property
    def wanted_namespaces(self) -> tuple[str, ...] | None:
        """Names and paths of the other network namespaces to read; None: all."""
        return None if isinstance(self.namespaces, str) else self.namespaces

    @field_validator("source")
    @classmethod
    def _daemon_reads(cls, source: str) -> str:
        if source == "replay":
            raise ValueError("the daemon reads no files; use `flowmap replay FILE`")
        return source


class AttributeConfig(Section):
    """How owners are found, and which answers count for a flow."""

    semantics: Literal["connection", "dataflow", "both"] = Field(
        default="both",
        description="How the API reads src and dst. connection: client and server of a connection. dataflow: where a "
        "job reads and writes. both: either. See `flowmap calibrate`.",
    )
    confirm: Annotated[Literal["strict", "fast"], NEXT_ANSWER] = Field(
        default="strict",
        description="strict: a name needs an answer about the lifetime of the flow. fast: a cached answer is enough.",
    )
    grace: Annotated[Duration, at_most(60.0), NEXT_ANSWER] = Field(
        default=2.0,
        description="Time around the start of a flow in which its address keeps its owner, at most 60s. 0s: no such "
        "assumption.",
    )
    registration_lag: Annotated[Duration, NEXT_ANSWER] = Field(
        default=10.0,
        description="Time after the start of a flow in which its owner may appear in the answers. After longer without "
        "any owner, a later one is not taken.",
    )
    answer_age: Annotated[Duration, at_most(600.0), NEXT_ANSWER] = Field(
        default=0.0,
        description="Age of the data that an answer rests on: it counts as asked so much earlier. At most 10m. flowmap "
        "calibrate --watch measures it.",
    )
    recheck: Annotated[Span, NEXT_ANSWER] = Field(
        default=1.0,
        description="Shortest interval to repeat a question while flows wait that its answer could decide.",
    )
    deployment_networks: Annotated[tuple[NetworkText, ...], AfterValidator(distinct)] = Field(
        default=(),
        description="Networks in which every client is a TaskManager of a deployment, and outside which none is. Then "
        "the users of the service endpoint name a client that the API never names itself (see attribute/README.md).",
    )
    one_deployment_per_client: bool = Field(
        default=True,
        description="A process at a client address serves one deployment. Then its owner is kept while the process "
        "runs, and with deployment_networks only those remain that use all its endpoints. false for session clusters.",
    )
    nat: Literal["translated", "original"] = Field(
        default="translated",
        description="Server endpoint to ask about if NAT changed it. translated: the endpoint that answers. original: "
        "the endpoint that the client called. The client endpoint is always the one before NAT.",
    )
    owners_limit: Annotated[int, NEXT_ANSWER] = Field(
        default=4, ge=1, le=100, description="A flow with more possible owners than this is ambiguous."
    )
    tie_wait: Duration = Field(
        default=60.0,
        description="Maximum time that an open flow with several possible owners stays pending, to ask about both "
        "endpoints together. 0s: it becomes shared at once.",
    )
    cache_size: int = Field(
        default=100_000, ge=1, le=10_000_000, description="Maximum number of questions with cached answers."
    )
    positive_ttl: Annotated[Span, NEXT_ANSWER] = Field(
        default=60.0, description="Interval to repeat a question that returned an owner."
    )
    negative_ttl: Annotated[Span, NEXT_ANSWER] = Field(
        default=30.0, description="Interval to repeat a question that returned no owner."
    )
    stale_for: Annotated[Duration, AT_ONCE] = Field(
        default=600.0,
        description="Time that an older answer about a service endpoint still confirms the owner of its client, and "
        "that an expired answer is still used while the API fails.",
    )
    give_up_after: Annotated[Span, AT_ONCE] = Field(
        default=3600.0, description="A flow that waits longer for an answer becomes failed."
    )


class ExportConfig(Section):
    """The series of /metrics."""

    labels: Annotated[tuple[Label, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("namespace", "deployment_id", "deployment", "peer", "protocol"),
        description="Labels of the traffic of deployments. Also possible: workspace; container and unit of the client "
        "on this host, or else of the server there (more series).",
    )
    peers: Annotated[dict[PeerName, Annotated[tuple[Service, ...], AfterValidator(some)]], NEW_NAMES] = Field(
        default={},
        description='Names of server endpoints: {orders: ["10.100.2.0/24:9092", "kafka-1.example:9092", '
        '"file_sd:/etc/prometheus/orders.json"]}. Default name: ip:port.',
    )
    deployment_labels: Annotated[tuple[str, ...], AfterValidator(distinct), AT_ONCE] = Field(
        default=(), description="Deployment labels copied to flowmap_deployment_info as label_<key>."
    )
    max_series: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description='Maximum number of traffic series. Beyond it, traffic goes to peer "other".',
    )
    idle_after: Annotated[Span, AT_ONCE] = Field(
        default=600.0, description="A series is removed after this time without open flows and traffic."
    )


class ExpectConfig(Section):
    """Expectations about connections; what does not meet them is a metric and an answer, see cli/README.md."""

    file: str | None = Field(
        default=None,
        min_length=1,
        description="File with the peers that each deployment may have, see `flowmap expect`. A reload reads it again.",
    )
    connections: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Maximum number of open connections of one deployment to one peer. null: no limit.",
    )
    idle: Span | None = Field(
        default=None, description="An open connection without traffic for longer is stale. null: never."
    )


class HttpConfig(Section):
    """The HTTP server."""

    listen: Listen = Field(
        default=values.Listen("127.0.0.1", 10817), description="Address and port. Port 0: any free port."
    )
    insecure: bool = Field(
        default=False, description="Allow listening on a non-loopback address without TLS and users."
    )
    tls: TlsServer | None = Field(
        default=None,
        description="{cert_file: …, key_file: …} and the other keys of tls_server_config. null: plain HTTP.",
    )
    users: Users | None = Field(
        default=None, description="Users with bcrypt hashes of their passwords, {NAME: HASH}. null: no login."
    )
    web_config: str | None = Field(
        default=None,
        min_length=1,
        description="File in the web configuration format of Prometheus exporters. Replaces tls and users.",
    )
    access: Access = Field(default=Access(), description="Who may scrape, query, and read the health.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description='Host names allowed in requests, besides IP addresses and localhost. "*": any.',
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.web_config is not None and (self.tls is not None or self.users is not None):
            raise ValueError("give web_config, or tls and users, not both")
        if self.users == {}:
            raise ValueError("users: give at least one, or null for no login")
        if self.web_config is None:  # otherwise the file must be read first
            self.check_guard(self.tls is not None, self.users or {})
        return self

    def check_guard(self, tls: bool, users: Iterable[str]) -> None:
        """ValueError if other hosts have access without login and TLS, or if ``access`` names an unknown user."""
        if not (tls or list(users) or self.insecure or self.listen.is_loopback):
            raise ValueError(
                f"listen {self.listen}: other hosts could see every connection; set tls or users (or web_config), "
                "or insecure: true if something else protects this address"
            )
        unknown = self.access.unknown_users(users)
        if unknown:
            raise ValueError(f"access: no user {', '.join(map(repr, unknown))} in users")


class LogConfig(Section):
    """The log of the daemon, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Lowest level shown.")
    format: Literal["auto", "text", "logfmt", "json"] = Field(
        default="auto", description="text, logfmt or json. auto: text on a terminal and in the journal, otherwise json."
    )


class Config(Section):
    """The whole configuration."""

    control_plane: ControlPlaneConfig = Field(
        default=ControlPlaneConfig(), description="The control plane that is asked for owners."
    )
    flink: FlinkConfig = Field(default=FlinkConfig(), description="Clusters of open-source Flink.")
    collect: CollectConfig = Field(default=CollectConfig(), description="Sources of connections.")
    attribute: AttributeConfig = Field(default=AttributeConfig(), description="How owners are found.")
    export: ExportConfig = Field(default=ExportConfig(), description="The series of /metrics.")
    expect: Annotated[ExpectConfig, AT_ONCE] = Field(
        default=ExpectConfig(), description="Expectations about connections and peers."
    )
    history: HistoryConfig = Field(default=HistoryConfig(), description="History on disk.")
    fleet: FleetConfig = Field(default=FleetConfig(), description="Answers and call budget shared by many hosts.")
    http: HttpConfig = Field(default=HttpConfig(), description="The HTTP server.")
    log: Annotated[LogConfig, AT_ONCE] = Field(default=LogConfig(), description="Logging.")

    @property
    def excluded(self) -> tuple[str, ...]:
        """Patterns of flows that do not count: ``collect.exclude`` and flowmap's own connections over loopback.

        Its own connections are scrapes, queries, and calls to a control plane on loopback.
        """
        endpoint = self.control_plane.endpoint
        asked = ([endpoint] if endpoint else []) + [url for one in self.flink.clusters for url in one.urls]
        ports = (self.http.listen.port, *map(values.loopback_port, asked))
        own = (pattern for port in ports if port for pattern in (f"127.0.0.0/8:{port}", f"[::1]:{port}"))
        return (*self.collect.exclude, *own)
