"""Makes clients of the control plane from the configuration, for the daemon and for commands."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from flowmap.config import Config, ControlPlaneConfig
from flowmap.control.alibaba.api.caller import Admit, Observe, default_transport, no_limit, no_observer
from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.api.requests import GET_DEPLOYMENTS_BY_IP
from flowmap.control.alibaba.control_plane import AlibabaControlPlane, Label
from flowmap.control.alibaba.credentials.base import Credentials, CredentialsProvider, StaticCredentials
from flowmap.control.alibaba.credentials.chain import process_credentials
from flowmap.control.catalog.catalog import Scope
from flowmap.control.http.endpoint import endpoint_of_region
from flowmap.control.http.route import Route, environment_proxy, trusting
from flowmap.control.http.transport_api import Transport
from flowmap.control.port import Admit as AdmitQuestion
from flowmap.control.port import ControlPlane
from flowmap.control.several import SeveralControlPlanes
from flowmap.errors import ConfigError
from flowmap.model.deployment import FLINK


class ConfiguredControl(NamedTuple):
    """A control plane, and how it takes other settings."""

    plane: ControlPlane
    prepare: Callable[[ControlPlaneConfig, ControlPlaneConfig], Callable[[], None]]
    """From the old and the new settings to a function that applies the new ones and cannot fail; ConfigError or
    AuthError if they cannot be used."""
    scopes: Callable[[], Iterable[Scope]] = tuple
    """The clusters of open-source Flink that are known now, as scopes of the catalog."""


Join = Callable[[ControlPlane, Callable[[], Awaitable[Credentials]]], ControlPlane]
"""Wraps a control plane so that its calls are shared; the second argument gets its keys."""


def configured_control(
    config: Config, *, observe: Observe = no_observer, admit: AdmitQuestion, join: Join = lambda plane, keys: plane
) -> ConfiguredControl:
    """The control planes of the configuration; ConfigError for missing or unusable settings.

    ``join`` makes the first of them share its calls with other hosts. The questions of clusters cost none.
    """
    if not config.flink.enabled:
        return _alibaba(config.control_plane, observe=observe, admit=admit, join=join)
    from flowmap.daemon.flink_clients import flink_control_plane  # a megabyte that few daemons need

    flink = flink_control_plane(config.flink)

    def scopes() -> list[Scope]:
        return [Scope(FLINK, name) for name in flink.clusters]

    if not config.control_plane.enabled:
        return ConfiguredControl(flink, lambda old, new: lambda: None, scopes)
    first = _alibaba(config.control_plane, observe=observe, admit=admit, join=join)
    plane = SeveralControlPlanes(first.plane, {FLINK: flink})
    return first._replace(plane=plane, scopes=scopes)


def _alibaba(settings: ControlPlaneConfig, *, observe: Observe, admit: AdmitQuestion, join: Join) -> ConfiguredControl:
    questions = GET_DEPLOYMENTS_BY_IP.name
    client = control_client(
        settings, observe=observe, admit=lambda operation, exchange: admit(operation == questions, exchange)
    )
    plane = AlibabaControlPlane(client, label=catalog_label(settings))
    return ConfiguredControl(join(plane, plane.keys), lambda old, new: _prepare(plane, client.transport, old, new))


def _prepare(
    plane: AlibabaControlPlane, transport: Transport, old: ControlPlaneConfig, new: ControlPlaneConfig
) -> Callable[[], None]:
    label, route = catalog_label(new), _new_route(old, new)
    # Temporary keys stay while their configuration is unchanged. Files of secrets are read again in any case.
    same_chain = old.credentials == new.credentials and new.credentials.access_key_id is None
    credentials = None if same_chain else credentials_provider(new, transport)
    return lambda: plane.configure(timeout=new.timeout, credentials=credentials, route=route, label=label)


def _new_route(old: ControlPlaneConfig, new: ControlPlaneConfig) -> Route | None:
    """The new route; None if it is unchanged. The file of authorities is read again, since it may have been renewed."""
    route = control_route(new)
    same = all(getattr(old, key) == getattr(new, key) for key in ("proxy_url", "proxy_from_environment", "tls"))
    return None if same and route.tls is None else route


def endpoint_url(settings: ControlPlaneConfig) -> str:
    """The URL of the control plane; ConfigError if the configuration has neither region nor endpoint."""
    if settings.endpoint is not None:
        return settings.endpoint
    if settings.region is not None:
        return endpoint_of_region(settings.region).url
    raise ConfigError("control_plane.region (or endpoint) is missing: set the region of the workspace")


def control_client(
    settings: ControlPlaneConfig,
    *,
    observe: Observe = no_observer,
    admit: Admit = no_limit,
    credentials: CredentialsProvider | None = None,
) -> ControlClient:
    """A client as configured, with ``credentials`` if given; ConfigError for a missing key."""
    if settings.workspace is None:
        raise ConfigError("control_plane.workspace is missing: the id of the Flink workspace to ask about")
    transport = control_transport(settings)
    return ControlClient(
        endpoint=endpoint_url(settings),
        workspace=settings.workspace,
        credentials=credentials or credentials_provider(settings, transport),
        timeout=settings.timeout,
        observe=observe,
        admit=admit,
        transport=transport,
    )


def control_route(settings: ControlPlaneConfig, environ: Mapping[str, str] = os.environ) -> Route:
    """The configured proxy and certificate authorities; reads the file of the latter. ConfigError."""
    ca_file = settings.tls.ca_file
    proxy = environment_proxy(environ) if settings.proxy_from_environment else settings.proxy_url
    return Route(proxy, None if ca_file is None else trusting(ca_file))


def control_transport(settings: ControlPlaneConfig) -> Transport:
    """The transport of all calls to the control plane and of those that get its keys; ConfigError."""
    return default_transport(control_route(settings))


def catalog_label(settings: ControlPlaneConfig) -> Label | None:
    """The label that narrows the catalog; ConfigError if the API has no request for it."""
    return Label.parse(settings.catalog.label) if settings.catalog.label is not None else None


def query_timeout(config: Config) -> float:
    """Seconds that a query may wait for the control plane."""
    return config.control_plane.timeout + 1


def credentials_provider(settings: ControlPlaneConfig, transport: Transport) -> CredentialsProvider:
    """The configured key, or else the chain of providers, which uses ``transport`` for its calls."""
    given = settings.credentials
    if given.access_key_id is None:
        return process_credentials(transport, ecs_role=given.ecs_ram_role)
    secret, token = given.access_key_secret, given.security_token
    return StaticCredentials(
        given.access_key_id,
        secret.get_secret_value() if secret else None,
        token.get_secret_value() if token else None,
        access_key_secret_file=given.access_key_secret_file,
        security_token_file=given.security_token_file,
    )
