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
    """Access key of an account that may read deployments. Without one, the credential chain is used."""

    access_key_id: str | None = Field(
        default=None,
        min_length=1,
        description="Access key id. null: the first configured of environment, ini profile, profile of the command "
        "line tool, OIDC role, credentials URI.",
    )
    access_key_secret: SecretStr | None = Field(
        default=None, min_length=1, description="Access key secret. A file is safer."
    )
    access_key_secret_file: str | None = Field(
        default=None, min_length=1, description="File with the access key secret."
    )
    security_token: SecretStr | None = Field(
        default=None, min_length=1, description="Security token of temporary credentials."
    )
    security_token_file: str | None = Field(default=None, min_length=1, description="File with the security token.")
    ecs_ram_role: bool = Field(
        default=False,
        description="If no other key is found, ask the metadata service of this ECS instance for its RAM role.",
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
            raise ValueError("give ecs_ram_role or access_key_id, not both")
        return self


class CatalogConfig(Section):
    """The list of all deployments, for their names, labels and jobs."""

    refresh: Span = Field(default=60.0, description="Interval to read the list.")
    label: str | None = Field(
        default=None,
        pattern=r"^[^=]+=[^=]+$",
        description='Only deployments with this label: "key=value1,value2". null: all.',
    )


class BlinkConfig(Section):
    """The legacy operation GetRefPackageJob. Only commands use it, not the daemon."""

    enabled: bool = Field(default=False, description="Use the legacy operation. Needs control_plane.region.")
    endpoint: Endpoint | None = Field(default=None, description="https://host[:port]. null: from the region.")
    projects: Annotated[tuple[Project, ...], AfterValidator(distinct)] = Field(
        default=(), description="Projects that `flowmap package-users` searches."
    )


class ControlPlaneTlsConfig(Section):
    """Verification of the certificates of the control plane and of the credential endpoints."""

    ca_file: str | None = Field(
        default=None,
        min_length=1,
        description="CA certificates in PEM that replace the built-in list, also for an https:// proxy.",
    )


class WorkspaceConfig(Section):
    """Another workspace of the same account and endpoint."""

    workspace: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Workspace id.")
    namespaces: Annotated[tuple[Namespace, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("default-namespace",), description="Namespaces of the workspace. Each costs its own calls."
    )


class ControlPlaneConfig(Section):
    """The control plane that is asked for owners (Realtime Compute for Apache Flink), and how often."""

    region: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+$",
        description="Region of the service, like cn-hangzhou. region or endpoint is required.",
    )
    endpoint: Endpoint | None = Field(
        default=None,
        description="https://host[:port] instead of the endpoint of the region. http:// only for loopback.",
    )
    workspace: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]+$", description="Workspace id, like a14bd5d90a. Required."
    )
    namespaces: Annotated[tuple[Namespace, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        default=("default-namespace",), description="Namespaces to ask. Each costs its own calls."
    )
    workspaces: tuple[WorkspaceConfig, ...] = Field(
        default=(),
        description="Additional workspaces: [{workspace: ID, namespaces: [...]}]. The daemon, query --direct and check "
        "ask them. Other commands ask the main workspace only.",
    )
    credentials: Annotated[CredentialsConfig, NEXT_CALL] = Field(
        default=CredentialsConfig(), description="Access key of the account."
    )
    rate: Annotated[float, AT_ONCE] = Field(default=2.0, gt=0, le=10_000, description="Maximum calls per second.")
    burst: Annotated[int, AT_ONCE] = Field(
        default=5, ge=1, le=100_000, description="Maximum calls at once after an idle period."
    )
    max_in_flight: Annotated[int, AT_ONCE] = Field(default=2, ge=1, le=100, description="Maximum calls in flight.")
    timeout: Annotated[Span, NEXT_CALL] = Field(default=10.0, description="Maximum wait for one answer.")
    proxy_url: Annotated[ProxyUrl | None, NEXT_CALL] = Field(
        default=None,
        description="http://[user:password@]host[:port] of a proxy for https:// calls (CONNECT). https://: TLS to the "
        "proxy. Calls over plain http:// (loopback, metadata service) do not use it.",
    )
    proxy_from_environment: Annotated[bool, NEXT_CALL] = Field(
        default=False, description="Use HTTPS_PROXY and NO_PROXY of the environment. By default they are ignored."
    )
    tls: Annotated[ControlPlaneTlsConfig, NEXT_CALL] = Field(
        default=ControlPlaneTlsConfig(), description="Verification of certificates."
    )
    catalog: Annotated[CatalogConfig, Live("the next listing")] = Field(
        default=CatalogConfig(), description="The list of deployments."
    )
    blink: Annotated[BlinkConfig, Live("commands only")] = Field(
        default=BlinkConfig(), description="The legacy operation."
    )

    @property
    def enabled(self) -> bool:
        """Whether the section names a workspace or a place to ask."""
        return any(given is not None for given in (self.region, self.endpoint, self.workspace))

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
