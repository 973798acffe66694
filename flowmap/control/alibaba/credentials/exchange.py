"""Gets temporary keys: a role by OIDC token, a credentials URI, the role of the ECS instance.

Each class makes one exchange for each ``fetch``; ``refreshing`` decides when and keeps the keys. Answers contain
secrets and are never quoted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from flowmap.control.alibaba.api.refusals import read_refusal
from flowmap.control.alibaba.api.signing import canonical_query, encode
from flowmap.control.alibaba.credentials.base import Credentials, read_secret
from flowmap.control.clock import Clock
from flowmap.control.http.endpoint import is_loopback
from flowmap.control.http.json_tree import read_tree
from flowmap.control.http.transport_api import HttpReply, Transport
from flowmap.errors import AuthError, ConfigError, ControlError, ProtocolError, Transient

METADATA = "http://100.100.100.200"
"""Metadata service of an ECS instance."""

METADATA_TOKEN_LIFE = 21600
"""Requested lifetime in seconds of the token for version 2 of the metadata service."""

METADATA_TIMEOUT = 1.0
EXCHANGE_TIMEOUT = 5.0

_ROLE_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,128}")


class Exchange(Protocol):
    """Gets temporary keys."""

    async def fetch(self) -> Credentials:
        """Fresh keys; AuthError, Transient or ProtocolError."""


class OidcRole:
    """Exchanges an OIDC token for a role (``AssumeRoleWithOIDC``), as pods with RRSA do. The request is not signed."""

    def __init__(
        self,
        *,
        role_arn: str,
        provider_arn: str,
        token_file: Path,
        transport: Transport,
        clock: Clock,
        session_name: str = "flowmap",
        endpoint: str = "https://sts.aliyuncs.com",
    ) -> None:
        self._query = {
            "Action": "AssumeRoleWithOIDC",
            "Format": "JSON",
            "Version": "2015-04-01",
            "DurationSeconds": "3600",
            "RoleArn": role_arn,
            "OIDCProviderArn": provider_arn,
            "RoleSessionName": session_name,
        }
        self._token_file = token_file
        self._endpoint = endpoint
        self._transport = transport
        self._clock = clock

    async def fetch(self) -> Credentials:
        try:
            token = read_secret(self._token_file)  # read each time: the kubelet replaces it
        except ConfigError as error:
            raise AuthError(str(error)) from error
        date = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = canonical_query({**self._query, "OIDCToken": token, "Timestamp": date})
        reply = await self._transport.send(
            "GET", f"{self._endpoint}/?{query}", {"accept": "application/json"}, timeout=EXCHANGE_TIMEOUT
        )
        tree = _object(reply, "the OIDC role")
        return _credentials(tree.get("Credentials"), "oidc")


class CredentialsUri:
    """Gets keys from a local helper (``ALIBABA_CLOUD_CREDENTIALS_URI``)."""

    def __init__(self, uri: str, *, transport: Transport) -> None:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        local = is_loopback(host) or host.startswith("169.254.")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise ConfigError("credentials URI: must be https://, or http:// on this machine")
        self._uri = uri
        self._transport = transport

    async def fetch(self) -> Credentials:
        reply = await self._transport.send("GET", self._uri, {}, timeout=EXCHANGE_TIMEOUT)
        return _credentials(_object(reply, "the credentials URI"), "uri")


class EcsRole:
    """Gets keys of the RAM role of the ECS instance from its metadata service."""

    def __init__(
        self, role: str | None, *, transport: Transport, endpoint: str = METADATA, allow_version_1: bool = True
    ) -> None:
        """``role`` None: the role of the instance. Without ``allow_version_1``, a service without tokens is refused."""
        if role is not None and not _ROLE_NAME.fullmatch(role):
            raise ConfigError(f"ECS role: {role!r} is not a role name")
        self._role = role
        self._transport = transport
        self._endpoint = endpoint
        self._allow_version_1 = allow_version_1

    async def fetch(self) -> Credentials:
        headers = await self._token()
        base = "/latest/meta-data/ram/security-credentials/"
        role = self._role
        if role is None:
            listed = await self._get(base, headers)
            role = listed.body.decode(errors="replace").strip()
            if listed.status != 200 or not _ROLE_NAME.fullmatch(role):
                raise AuthError(f"the ECS instance has no RAM role (HTTP {listed.status})")
        tree = _object(await self._get(base + encode(role), headers), "the metadata service")
        if tree.get("Code") != "Success":
            raise AuthError("the metadata service gave no keys for the RAM role")
        return _credentials(tree, "ecs_role")

    async def _token(self) -> Mapping[str, str]:
        wanted = {"x-aliyun-ecs-metadata-token-ttl-seconds": str(METADATA_TOKEN_LIFE)}
        try:
            reply = await self._transport.send(
                "PUT", f"{self._endpoint}/latest/api/token", wanted, timeout=METADATA_TIMEOUT
            )
        except ControlError:
            if not self._allow_version_1:
                raise
            return {}
        token = reply.body.decode(errors="replace").strip()
        if reply.status == 200 and token.isascii() and token.isprintable():
            return {"x-aliyun-ecs-metadata-token": token}
        if self._allow_version_1:
            return {}
        raise AuthError(f"the metadata service gave no token (HTTP {reply.status})")

    async def _get(self, path: str, headers: Mapping[str, str]) -> HttpReply:
        return await self._transport.send("GET", self._endpoint + path, headers, timeout=METADATA_TIMEOUT)


def _object(reply: HttpReply, who: str) -> dict[str, Any]:
    """The JSON object of a reply with status 200; an error for any other reply."""
    if reply.status != 200:
        code = read_refusal(reply).code or "no error code"
        kind = Transient if reply.status >= 500 or reply.status == 429 else AuthError
        raise kind(f"{who} answered HTTP {reply.status}: {code}", status=reply.status)
    try:
        tree = read_tree(reply.body)
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise ProtocolError(f"{who} returned something that is not a JSON object", status=reply.status)
    return tree


def _credentials(tree: object, origin: str) -> Credentials:
    if not isinstance(tree, dict):
        raise ProtocolError(f"{origin}: the answer has no credentials")
    texts = [tree.get(name) for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration")]
    if not all(isinstance(text, str) for text in texts):
        raise ProtocolError(f"{origin}: the answer lacks a part of the credentials")
    key, secret, token, expiration = (str(text) for text in texts)
    try:
        expires = datetime.strptime(expiration, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise ProtocolError(f"{origin}: the expiration is not a time") from error
    return Credentials(key, secret, token, expires, origin)
