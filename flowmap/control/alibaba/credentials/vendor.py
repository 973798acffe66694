"""Keys of other kinds of profiles (assumed roles, single sign-on, external programs) through the vendor's library.

The library is the optional extra ``credentials``: it needs twenty distributions and starts a scheduler thread.
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
    """Gets the keys of a profile from the library."""

    def __init__(self, provider: Any, *, profile: str) -> None:
        self._provider = provider
        self._profile = profile
        self._calls: DetachedCalls[Any] = DetachedCalls("vendor-credentials", 1)

    async def fetch(self) -> Credentials:
        try:
            # The library blocks. Its asynchronous calls need a second HTTP client.
            found = await self._calls.run(self._profile, self._provider.get_credentials)
        except Exception as error:  # it raises errors of its own, of requests and of json, some with secrets in them
            raise AuthError(f"{self._profile}: no keys from the vendor's library ({type(error).__name__})") from None
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
