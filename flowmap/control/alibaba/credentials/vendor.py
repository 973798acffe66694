"""Profiles of other kinds (assumed roles, single sign-on, external programs, …) through the vendor's library.

The library is the optional extra ``credentials``: it brings twenty distributions and a scheduler thread, which a daemon
that signs with a key should not carry.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.errors import AuthError
from flowmap.system.detached import DetachedCalls

_PROVIDERS = {
    "ini": ("alibabacloud_credentials.provider.profile", "ProfileCredentialsProvider"),
    "cli": ("alibabacloud_credentials.provider.cli_profile", "CLIProfileCredentialsProvider"),
}


class VendorExchange:
    """Asks the library for the keys of a profile."""

    def __init__(self, provider: Any, *, profile: str) -> None:
        self._provider = provider
        self._profile = profile
        self._calls: DetachedCalls[Any] = DetachedCalls("vendor-credentials", 1)

    async def fetch(self) -> Credentials:
        try:
            # The library blocks; its own asynchronous calls would bring a second HTTP client.
            found = await self._calls.run(self._profile, self._provider.get_credentials)
        except Exception as error:  # it raises its own, requests' and json's errors, some with secrets in them
            raise AuthError(f"{self._profile}: the vendor's library gave no keys ({type(error).__name__})") from None
        return Credentials(
            found.get_access_key_id() or "",
            found.get_access_key_secret() or "",
            found.get_security_token() or None,
            origin=self._profile,
        )


def vendor_credentials(kind: str, path: Path, profile: str | None, mode: str) -> VendorExchange:
    """The exchange for a profile of the ``ini`` or ``cli`` file of the kind ``mode``; AuthError without the library."""
    module, name = _PROVIDERS[kind]
    shown = f"{path}, profile {profile or 'default'} ({mode})"
    try:
        provider = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise AuthError(f"{shown}: install flowmap[credentials] for keys of this kind") from error
    return VendorExchange(provider(profile_file=str(path), profile_name=profile or None), profile=shown)
