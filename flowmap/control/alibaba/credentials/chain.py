"""The chain of providers for a configuration without a key.

The first provider that is set up is used: environment, ini profile, profile of the command line tool, role by OIDC
token, credentials URI, role of the ECS instance. The last one must be switched on, so that a laptop never calls the
metadata address. A provider that is set up but fails is an error: the next one would be another identity.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from flowmap.control.alibaba.credentials.base import SECRET_FILE_LIMIT, Credentials, CredentialsProvider
from flowmap.control.alibaba.credentials.exchange import METADATA, CredentialsUri, EcsRole, OidcRole
from flowmap.control.alibaba.credentials.files import CLI_FILE, INI_FILE, OtherKind, parse_cli, parse_ini
from flowmap.control.alibaba.credentials.refreshing import RefreshingCredentials
from flowmap.control.alibaba.credentials.vendor import vendor_credentials
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.http.endpoint import region_id
from flowmap.control.http.transport_api import Transport
from flowmap.errors import AuthError, ConfigError

PREFIX = "ALIBABA_CLOUD_"


def process_credentials(transport: Transport, *, ecs_role: bool = False) -> CredentialsChain:
    """The chain for the environment and the home of this process. ``transport`` may be shared with a client."""
    return CredentialsChain(
        transport=transport, environ=os.environ, home=Path(os.environ.get("HOME") or "/"), ecs_role=ecs_role
    )


class CredentialsChain:
    """Selects the first provider that is set up at the first :meth:`get`, and keeps it."""

    def __init__(
        self,
        *,
        transport: Transport,
        environ: Mapping[str, str],
        home: Path,
        ecs_role: bool = False,
        metadata: str = METADATA,
        sts: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``ecs_role`` enables the role of the instance, like a role name in ``ALIBABA_CLOUD_ECS_METADATA``.
        ``metadata`` and ``sts`` replace the vendor's addresses in tests."""
        self._transport = transport
        self._environ = environ
        self._home = home
        self._ecs_role = ecs_role
        self._metadata = metadata
        self._sts = sts
        self._clock = clock
        self._found: CredentialsProvider | None = None

    async def get(self) -> Credentials:
        if self._found is None:
            self._found = self._find()
        return await self._found.get()

    def reject(self, credentials: Credentials) -> bool:
        found, self._found = self._found, None
        if found is None:
            return True
        if isinstance(found, RefreshingCredentials):
            self._found = found
            return found.reject(credentials)
        try:  # keys from the environment or a file may have changed
            self._found = self._find()
        except AuthError:
            return False
        return not (isinstance(self._found, _Fixed) and self._found.credentials == credentials)

    def _find(self) -> CredentialsProvider:
        for look in (self._environment, self._ini, self._cli, self._oidc, self._uri, self._ecs):
            try:
                found = look()
            except ConfigError as error:
                raise AuthError(str(error)) from error
            if found is not None:
                return found
        raise AuthError(
            "no credentials: set control_plane.credentials, or ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET, or a profile"
        )

    def _var(self, name: str) -> str | None:
        return self._environ.get(PREFIX + name) or None

    def _on(self, name: str) -> bool:
        return (self._var(name) or "").lower() == "true"

    def _environment(self) -> CredentialsProvider | None:
        key, secret = self._var("ACCESS_KEY_ID"), self._var("ACCESS_KEY_SECRET")
        if key is None and secret is None:
            return None
        if key is None or secret is None:
            missing = "ACCESS_KEY_ID" if key is None else "ACCESS_KEY_SECRET"
            raise AuthError(f"environment: {PREFIX}{missing} is not set")
        return _Fixed(Credentials(key, secret, self._var("SECURITY_TOKEN"), origin="environment"))

    def _ini(self) -> CredentialsProvider | None:
        given = self._var("CREDENTIALS_FILE")
        path = Path(given) if given else self._home / INI_FILE
        text = _read(path, needed=given is not None)
        if text is None:
            return None
        found = parse_ini(text, profile=self._var("PROFILE"), origin=str(path))
        if found is None and given is not None:
            raise AuthError(f"{path}: no profile {self._var('PROFILE') or 'default'}")
        return self._of_file(found, path, "ini")

    def _cli(self) -> CredentialsProvider | None:
        path = self._home / CLI_FILE
        text = None if self._on("CLI_PROFILE_DISABLED") else _read(path, needed=False)
        if text is None:
            return None
        return self._of_file(parse_cli(text, profile=self._var("PROFILE"), origin=str(path)), path, "cli")

    def _of_file(self, found: Credentials | OtherKind | None, path: Path, kind: str) -> CredentialsProvider | None:
        if found is None:
            return None
        if isinstance(found, Credentials):
            return _Fixed(found)
        return RefreshingCredentials(
            vendor_credentials(kind, path, self._var("PROFILE"), found.kind), clock=self._clock
        )

    def _oidc(self) -> CredentialsProvider | None:
        role, provider, token = self._var("ROLE_ARN"), self._var("OIDC_PROVIDER_ARN"), self._var("OIDC_TOKEN_FILE")
        if role is None or provider is None or token is None:
            return None
        exchange = OidcRole(
            role_arn=role,
            provider_arn=provider,
            token_file=Path(token),
            session_name=self._var("ROLE_SESSION_NAME") or "flowmap",
            endpoint=self._sts or self._sts_endpoint(),
            transport=self._transport,
            clock=self._clock,
        )
        return RefreshingCredentials(exchange, clock=self._clock)

    def _sts_endpoint(self) -> str:
        region = self._var("STS_REGION")
        if region is None:
            return "https://sts.aliyuncs.com"
        network = "-vpc" if self._on("VPC_ENDPOINT_ENABLED") else ""
        return f"https://sts{network}.{region_id(region)}.aliyuncs.com"

    def _uri(self) -> CredentialsProvider | None:
        uri = self._var("CREDENTIALS_URI")
        if uri is None:
            return None
        return RefreshingCredentials(CredentialsUri(uri, transport=self._transport), clock=self._clock)

    def _ecs(self) -> CredentialsProvider | None:
        role = self._var("ECS_METADATA")
        if self._on("ECS_METADATA_DISABLED") or not (self._ecs_role or role):
            return None
        exchange = EcsRole(
            role,
            transport=self._transport,
            endpoint=self._metadata,
            allow_version_1=not self._on("IMDSV1_DISABLED"),
        )
        return RefreshingCredentials(exchange, clock=self._clock)


class _Fixed:
    """Keys that do not change."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    async def get(self) -> Credentials:
        return self.credentials

    def reject(self, credentials: Credentials) -> bool:
        return False


def _read(path: Path, *, needed: bool) -> str | None:
    """The text of a file; None if it is missing and not ``needed``. AuthError names the file."""
    try:
        with path.open("rb") as file:
            return file.read(SECRET_FILE_LIMIT).decode("utf-8-sig")
    except FileNotFoundError as error:
        if not needed:
            return None
        raise AuthError(f"{path}: {error.strerror}") from error
    except OSError as error:
        # A home without access is normal for a service; an existing file without access is a mistake.
        if not needed and not os.path.exists(path):
            return None
        raise AuthError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise AuthError(f"{path}: not UTF-8 text") from None
