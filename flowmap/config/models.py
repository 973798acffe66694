"""The configuration, one model a section. Descriptions are the documentation: the README's table, the comments of
config/flowmap.yaml and the JSON Schema are made from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from flowmap.config import values
from flowmap.config.fields import (
    CaptureFilter,
    Duration,
    Endpoint,
    InterfaceName,
    Label,
    Listen,
    Namespace,
    Pattern,
    PeerName,
    Project,
    ProxyUrl,
    Section,
    Service,
    Size,
    Span,
    distinct,
    some,
)
from flowmap.config.web import Access, TlsServer, Users


class Credentials(Section):
    """Key of the account that may read the deployments; without one the usual places are looked at."""

    access_key_id: str | None = Field(
        default=None,
        min_length=1,
        description="Access key id. Null: the first that is set up of environment, ini profile, profile of the "
        "command line tool, OIDC role, credentials URI.",
    )
    access_key_secret: SecretStr | None = Field(default=None, min_length=1, description="Its secret; better in a file.")
    access_key_secret_file: str | None = Field(default=None, min_length=1, description="File that holds the secret.")
    security_token: SecretStr | None = Field(default=None, min_length=1, description="Token of temporary credentials.")
    security_token_file: str | None = Field(default=None, min_length=1, description="File that holds the token.")
    ecs_ram_role: bool = Field(
        default=False,
        description="Where there is no other key, ask this ECS instance's metadata service for its RAM role.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("access_key_secret", "security_token"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"give {name} or {name}_file, not both")
        secret = self.access_key_secret or self.access_key_secret_file
        if (self.access_key_id is None) != (secret is None):
            raise ValueError("access_key_id and access_key_secret (or access_key_secret_file) go together")
        if (self.security_token or self.security_token_file) and self.access_key_id is None:
            raise ValueError("security_token needs access_key_id and access_key_secret")
        if self.ecs_ram_role and self.access_key_id is not None:
            raise ValueError("ecs_ram_role is never asked beside access_key_id; give one of them")
        return self


class Catalog(Section):
    """The list of deployments kept beside the answers by address."""

    refresh: Span = Field(default=60.0, description="How often the list is read again.")
    label: str | None = Field(
        default=None,
        pattern=r"^[^=]+=[^=]+$",
        description='Only deployments with this label: "key=value1,value2". Null: all.',
    )


class Blink(Section):
    """The legacy operation GetRefPackageJob; only commands ask it, never the daemon."""

    enabled: bool = Field(default=False, description="Ask it at all; needs control_plane.region.")
    endpoint: Endpoint | None = Field(default=None, description="https://host[:port]; null: by region.")
    projects: Annotated[tuple[Project, ...], AfterValidator(distinct)] = Field(
        default=(), description="Projects that `flowmap package-users` asks for."
    )


class ControlPlaneTls(Section):
    """How certificates of the control plane and of the credential endpoints are checked."""

    ca_file: str | None = Field(
        default=None,
        min_length=1,
        description="Authorities in PEM that are trusted instead of the built-in list, also for an https:// proxy.",
    )


class Workspace(Section):
    """One more workspace of the same account and endpoint."""

    workspace: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Workspace id.")
    namespaces: Annotated[tuple[Namespace, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("default-namespace",), description="Its namespaces; each costs its own calls."
    )


class ControlPlane(Section):
    """Realtime Compute for Apache Flink: who is asked for owners, and how often."""

    region: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+$",
        description="Region of the service, like cn-hangzhou. This or endpoint is needed.",
    )
    endpoint: Endpoint | None = Field(
        default=None, description="https://host[:port] instead of the region's own; http:// for loopback only."
    )
    workspace: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]+$", description="Workspace id, like a14bd5d90a. Needed."
    )
    namespaces: Annotated[tuple[Namespace, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("default-namespace",), description="Namespaces to ask; each costs its own calls."
    )
    workspaces: tuple[Workspace, ...] = Field(
        default=(),
        description="More workspaces that are asked: [{workspace: ID, namespaces: [...]}]. Of the commands that ask "
        "the control plane themselves, only query --direct and check ask these, too.",
    )
    credentials: Credentials = Field(default=Credentials(), description="Key of the account.")
    rate: float = Field(default=2.0, gt=0, le=10_000, description="Calls a second.")
    burst: int = Field(default=5, ge=1, le=100_000, description="Calls that may be made at once after a quiet time.")
    max_in_flight: int = Field(default=2, ge=1, le=100, description="Calls waiting for their answer at one time.")
    timeout: Span = Field(default=10.0, description="Longest wait for one answer.")
    proxy_url: ProxyUrl | None = Field(
        default=None,
        description="http://[user:password@]host[:port] of a proxy that https:// calls go through (CONNECT); https:// "
        "for TLS to the proxy. Plain http://, so also the metadata service of ecs_ram_role, is asked directly.",
    )
    proxy_from_environment: bool = Field(
        default=False, description="Use HTTPS_PROXY and NO_PROXY of the environment; without this they are ignored."
    )
    tls: ControlPlaneTls = Field(default=ControlPlaneTls(), description="How certificates are checked.")
    catalog: Catalog = Field(default=Catalog(), description="The list of deployments.")
    blink: Blink = Field(default=Blink(), description="The legacy operation.")

    @model_validator(mode="after")
    def _one_proxy(self) -> Self:
        if self.proxy_url is not None and self.proxy_from_environment:
            raise ValueError("give proxy_url or proxy_from_environment, not both")
        return self

    @model_validator(mode="after")
    def _workspaces_differ(self) -> Self:
        distinct((self.workspace or "", *(one.workspace for one in self.workspaces)))
        return self

    @model_validator(mode="after")
    def _blink_has_a_region(self) -> Self:
        if self.blink.enabled and self.region is None:
            raise ValueError("blink.enabled needs region: the legacy operation has it as a parameter")
        return self


class Conntrack(Section):
    """The kernel's connection tracking table (needs CAP_NET_ADMIN)."""

    resync: Span = Field(default=30.0, description="How often the whole table is read, whatever the events said.")
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


class Sockets(Section):
    """This host's TCP sockets (needs no privilege)."""

    interval: Span = Field(default=5.0, description="How often open sockets are read; closed ones report themselves.")


class Capture(Section):
    """Packets from the wire (needs CAP_NET_RAW)."""

    interfaces: Annotated[tuple[InterfaceName, ...], AfterValidator(distinct)] = Field(
        default=(), max_length=128, description="Interfaces to listen on; any, or empty: all."
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


class Collect(Section):
    """Where connections are read from, and which of them count."""

    source: Literal["auto", "conntrack", "sockets", "capture", "replay"] = Field(
        default="auto",
        description="auto takes conntrack where it is permitted, tracks and counts bytes, with the health of TCP from "
        "the socket table; else the socket table; else packets, if collect.capture.interfaces names some.",
    )
    include: tuple[Pattern, ...] = Field(
        default=(),
        description='Flows that count: "10.0.0.0/8" (either end), "10.1.0.0/16:3306" (service end), "tcp/9092". '
        "Empty: all.",
    )
    exclude: tuple[Pattern, ...] = Field(
        default=(), description="Flows that do not count, in the same form; wins over include."
    )
    conntrack: Conntrack = Field(default=Conntrack(), description="The connection tracking table.")
    sockets: Sockets = Field(default=Sockets(), description="The socket table.")
    capture: Capture = Field(default=Capture(), description="Packets.")
    max_flows: int = Field(default=1_000_000, ge=1, le=100_000_000, description="Flows tracked at one time.")

    @field_validator("source")
    @classmethod
    def _daemon_reads(cls, source: str) -> str:
        if source == "replay":
            raise ValueError("a file is read with `flowmap replay FILE`, not by the daemon")
        return source


class Attribute(Section):
    """How an owner is found, and when an answer counts."""

    semantics: Literal["connection", "dataflow", "both"] = Field(
        default="both",
        description="Reading of the API's src and dst: ends of a connection, where a job reads and writes, or both.",
    )
    confirm: Literal["strict", "fast"] = Field(
        default="strict",
        description="strict: a name needs an answer about the flow's own lifetime; fast: a cached answer will do.",
    )
    grace: Duration = Field(
        default=2.0,
        description="An address is taken not to change hands within this time of a flow's start; 0s: assume nothing.",
    )
    nat: Literal["translated", "original"] = Field(
        default="translated",
        description="The service end that is asked about where NAT changed it: translated, the one that really "
        "answers, or original, the one the client called. The client is always the one before NAT.",
    )
    owners_limit: int = Field(default=4, ge=1, le=100, description="More owners than this and the flow is ambiguous.")
    tie_wait: Duration = Field(
        default=60.0,
        description="How long an open flow with several possible owners stays pending while both its ends are asked "
        "about together; 0s: it is shared at once.",
    )
    cache_size: int = Field(default=100_000, ge=1, le=10_000_000, description="Questions whose answers are kept.")
    positive_ttl: Span = Field(default=60.0, description="A question that named someone is asked again after this.")
    negative_ttl: Span = Field(default=30.0, description="The same for one that named nobody.")
    stale_for: Duration = Field(default=600.0, description="How long an old answer serves while the API fails.")
    give_up_after: Span = Field(default=3600.0, description="Flows that wait longer for their answer become failed.")


class Export(Section):
    """The series in /metrics."""

    labels: Annotated[tuple[Label, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("namespace", "deployment_id", "deployment", "peer", "protocol"),
        description="Labels of a deployment's traffic; also possible: workspace.",
    )
    peers: dict[PeerName, Annotated[tuple[Service, ...], AfterValidator(some)]] = Field(
        default={}, description='Names for service ends: {orders: ["10.100.2.0/24:9092"]}. Others are called ip:port.'
    )
    deployment_labels: Annotated[tuple[str, ...], AfterValidator(distinct)] = Field(
        default=(), description="Deployment labels copied to flowmap_deployment_info as label_<key>."
    )
    max_series: int = Field(
        default=10_000, ge=1, le=10_000_000, description='Series of traffic; what exceeds it goes to peer "other".'
    )
    idle_after: Span = Field(default=600.0, description="A series without open flows or traffic for this time leaves.")


class History(Section):
    """What was true when, kept on disk."""

    path: str | None = Field(default=None, min_length=1, description="SQLite file; null: no history.")
    retain: Span = Field(default=7 * 86400.0, description="How long it is kept.")
    max_size: Size = Field(default=1 << 30, ge=1 << 20, description="Largest size of the file.")


class Http(Section):
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


class Log(Section):
    """What the daemon says about itself, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level shown.")
    format: Literal["auto", "text", "logfmt", "json"] = Field(
        default="auto", description="text, logfmt or json; auto: text on a terminal and in the journal, else json."
    )


class Config(Section):
    """Everything that can be configured."""

    control_plane: ControlPlane = Field(default=ControlPlane(), description="Who is asked.")
    collect: Collect = Field(default=Collect(), description="Where connections are read from.")
    attribute: Attribute = Field(default=Attribute(), description="How an owner is found.")
    export: Export = Field(default=Export(), description="The series in /metrics.")
    history: History = Field(default=History(), description="The past.")
    http: Http = Field(default=Http(), description="The HTTP server.")
    log: Log = Field(default=Log(), description="Logging.")
