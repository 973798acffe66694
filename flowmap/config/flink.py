"""The section ``flink`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from flowmap.config import values
from flowmap.config.fields import ClientTls, Namespace, Section, Span, distinct, some

JobManagerUrl = Annotated[str, AfterValidator(values.parse_job_manager)]


class FlinkBasicAuthConfig(Section):
    """A login that a proxy before the REST interface asks for."""

    username: str = Field(min_length=1, description="User name.")
    password_file: str = Field(min_length=1, description="File with the password.")


class FlinkClusterConfig(Section):
    """A cluster of open-source Flink."""

    name: Namespace = Field(description="Name of the cluster; the namespace of its deployments.")
    urls: Annotated[tuple[JobManagerUrl, ...], AfterValidator(distinct), AfterValidator(some)] = Field(
        description="REST addresses of its JobManagers: http://host:port or https://host:port."
    )
    tls: ClientTls = Field(default=ClientTls(), description="TLS.")
    bearer_token_file: str | None = Field(
        default=None, min_length=1, description="File with a bearer token for a proxy, read at every call."
    )
    basic_auth: FlinkBasicAuthConfig | None = Field(default=None, description="A login for a proxy.")
    path_prefix: str = Field(
        default="/", pattern=r"^/[^?#\s]*$", description="Prefix of every path, if a proxy adds one."
    )

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.bearer_token_file is not None and self.basic_auth is not None:
            raise ValueError("give bearer_token_file or basic_auth, not both")
        return self


def _different_names(clusters: tuple[FlinkClusterConfig, ...]) -> tuple[FlinkClusterConfig, ...]:
    distinct(tuple(cluster.name for cluster in clusters))
    return clusters


class FlinkKubernetesConfig(Section):
    """Clusters of open-source Flink in Kubernetes, found by the labels of their pods."""

    enabled: bool = Field(
        default=False, description="Look for clusters. Needs the rights of config/kubernetes/flink.yaml."
    )
    api: Annotated[str, AfterValidator(values.parse_api_server)] = Field(
        default="in-cluster",
        description="in-cluster: with the service account of this pod. Or the URL of the API server.",
    )
    namespaces: Annotated[tuple[Namespace, ...], AfterValidator(distinct)] = Field(
        default=(), description="Namespaces to look in. Empty: all."
    )
    selector: str = Field(
        default="component=jobmanager", min_length=1, description="Label selector of the JobManagers' pods."
    )


class FlinkConfig(Section):
    """Clusters of open-source Flink, beside control_plane or instead of it."""

    clusters: Annotated[tuple[FlinkClusterConfig, ...], AfterValidator(_different_names)] = Field(
        default=(),
        description="[{name: NAME, urls: [http://HOST:8081]}], with tls: {ca_file, cert_file, key_file}, "
        "bearer_token_file, basic_auth: {username, password_file} and path_prefix where a cluster needs them.",
    )
    kubernetes: FlinkKubernetesConfig = Field(default=FlinkKubernetesConfig(), description="Clusters in Kubernetes.")
    poll: Span = Field(default=2.0, description="Interval to read each cluster.")
    identity: Literal["job_name", "application", "cluster", "job_id"] = Field(
        default="job_name",
        description="What a deployment is. job_name: the jobs of one name in a cluster. application: an application "
        "cluster; in a session cluster as job_name. cluster: everything in a cluster. job_id: one submission.",
    )

    addresses: Literal["exclusive", "shared"] = Field(
        default="exclusive",
        description="exclusive: the address of a TaskManager is its own (pods). shared: other programs use it, too, so "
        "its connections get a name only where host identifies them as the TaskManager's.",
    )
    host: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: use the cgroups and processes of this host's TaskManagers to tell their connections from "
        "each other's and from those of other programs. off: do not.",
    )

    @property
    def enabled(self) -> bool:
        """Whether any cluster is read."""
        return bool(self.clusters) or self.kubernetes.enabled
