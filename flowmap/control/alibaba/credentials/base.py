"""Access keys: their value, and the interface of their providers.

Only :class:`Credentials` holds secrets. They are in no ``repr``, error or log line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flowmap.errors import AuthError, ConfigError

SECRET_FILE_LIMIT = 64 * 1024
"""Most bytes read of a secret file."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key, with a token if it is temporary."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    """Seconds since the epoch; None if it does not expire."""
    origin: str = "config"
    """The provider it came from, for messages."""

    def __post_init__(self) -> None:
        for name in ("access_key_id", "access_key_secret"):
            if not getattr(self, name):
                raise AuthError(f"{name} is empty")
        for name in ("access_key_id", "access_key_secret", "security_token"):
            value = getattr(self, name) or ""
            # They become headers, and the HTTP library's error quotes a header that cannot be sent.
            if not value.isascii() or not value.isprintable() or value != value.strip():
                raise AuthError(f"{name} has a blank at its start or end, or a character that cannot be in a header")


class CredentialsProvider(Protocol):
    """Provides access keys."""

    async def get(self) -> Credentials:
        """Valid keys; AuthError or Transient if there are none."""

    def reject(self, credentials: Credentials) -> bool:
        """Drop ``credentials`` after the control plane refused them. True if :meth:`get` may now return others."""


class StaticCredentials:
    """Keys from the configuration. Files are read again after a refusal."""

    def __init__(
        self,
        access_key_id: str,
        access_key_secret: str | None = None,
        security_token: str | None = None,
        *,
        access_key_secret_file: str | Path | None = None,
        security_token_file: str | Path | None = None,
    ) -> None:
        if (access_key_secret is None) == (access_key_secret_file is None):
            raise ConfigError("credentials: give access_key_secret or access_key_secret_file, one of them")
        if security_token is not None and security_token_file is not None:
            raise ConfigError("credentials: give security_token or security_token_file, not both")
        self._id = access_key_id
        self._secret = access_key_secret
        self._token = security_token
        self._secret_file = access_key_secret_file
        self._token_file = security_token_file
        self._current = self._load()

    async def get(self) -> Credentials:
        return self._current

    def reject(self, credentials: Credentials) -> bool:
        if credentials == self._current:
            try:
                self._current = self._load()
            except (AuthError, ConfigError):
                return False  # the file is being replaced; the next refusal reads it again
        return credentials != self._current

    def __repr__(self) -> str:
        return f"StaticCredentials({self._id!r})"

    def _load(self) -> Credentials:
        secret = self._secret if self._secret_file is None else read_secret(Path(self._secret_file))
        token = self._token if self._token_file is None else read_secret(Path(self._token_file))
        return Credentials(self._id, secret or "", token or None, origin="config")


def read_secret(path: Path) -> str:
    """The content of a secret file without surrounding blanks and line ends; ConfigError names the file."""
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_FILE_LIMIT)
        return content.decode().strip()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the secret: {error.strerror}") from error
    except UnicodeDecodeError:
        # The decoding error quotes the bytes, so it is not the cause.
        raise ConfigError(f"{path}: the secret is not text") from None
