"""The section ``control_plane`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    model_validator,
)

from flowmap.config.fields import (
    AT_ONCE,
    NEXT_CALL,
    Endpoint,
    Live,
    Namespace,
    Project,
    ProxyUrl,
    Section,
    Span,
    distinct,
    some,
)


class CredentialsConfig(Section):
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


class CatalogConfig(Section):
    """The list of deployments kept beside the answers by address."""

    refresh: Span = Field(default=60.0, description="How often the list is read again.")
    label: str | None = Field(
        default=None,
        pattern=r"^[^=]+=[^=]+$",
        description='Only deployments with this label: "key=value1,value2". Null: all.',
    )


class BlinkConfig(Section):
    """The legacy operation GetRefPackageJob; only commands ask it, never the daemon."""

    enabled: bool = Field(default=False, description="Ask it at all; needs control_plane.region.")
    endpoint: Endpoint | None = Field(default=None, description="https://host[:port]; null: by region.")
    projects: Annotated[tuple[Project, ...], AfterValidator(distinct)] = Field(
        default=(), description="Projects that `flowmap package-users` asks for."
    )


class ControlPlaneTlsConfig(Section):
    """How certificates of the control plane and of the credential endpoints are checked."""

    ca_file: str | None = Field(
        default=None,
        min_length=1,
        description="Authorities in PEM that are trusted instead of the built-in list, also for an https:// proxy.",
    )


class WorkspaceConfig(Section):
    """One more workspace of the same account and endpoint."""

    workspace: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Workspace id.")
    namespaces: Annotated[tuple[Namespace, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("default-namespace",), description="Its namespaces; each costs its own calls."
    )


class ControlPlaneConfig(Section):
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
    workspaces: tuple[WorkspaceConfig, ...] = Field(
        default=(),
        description="More workspaces that are asked: [{workspace: ID, namespaces: [...]}]. Of the commands that ask "
        "the control plane themselves, only query --direct and check ask these, too.",
    )
    credentials: Annotated[CredentialsConfig, NEXT_CALL] = Field(
        default=CredentialsConfig(), description="Key of the account."
    )
    rate: Annotated[float, AT_ONCE] = Field(default=2.0, gt=0, le=10_000, description="Calls a second.")
    burst: Annotated[int, AT_ONCE] = Field(
        default=5, ge=1, le=100_000, description="Calls that may be made at once after a quiet time."
    )
    max_in_flight: Annotated[int, AT_ONCE] = Field(
        default=2, ge=1, le=100, description="Calls waiting for their answer at one time."
    )
    timeout: Annotated[Span, NEXT_CALL] = Field(default=10.0, description="Longest wait for one answer.")
    proxy_url: Annotated[ProxyUrl | None, NEXT_CALL] = Field(
        default=None,
        description="http://[user:password@]host[:port] of a proxy that https:// calls go through (CONNECT); https:// "
        "for TLS to the proxy. Plain http://, so also the metadata service of ecs_ram_role, is asked directly.",
    )
    proxy_from_environment: Annotated[bool, NEXT_CALL] = Field(
        default=False, description="Use HTTPS_PROXY and NO_PROXY of the environment; without this they are ignored."
    )
    tls: Annotated[ControlPlaneTlsConfig, NEXT_CALL] = Field(
        default=ControlPlaneTlsConfig(), description="How certificates are checked."
    )
    catalog: Annotated[CatalogConfig, Live("the next listing")] = Field(
        default=CatalogConfig(), description="The list of deployments."
    )
    blink: Annotated[BlinkConfig, Live("commands only")] = Field(
        default=BlinkConfig(), description="The legacy operation."
    )

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
