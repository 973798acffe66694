"""Certificates for tests: an authority, servers and clients it vouches for, as files; and password hashes."""

from __future__ import annotations

import ssl
from pathlib import Path

import bcrypt
import trustme

PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


class Authority:
    """One certificate authority and its files in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory = directory
        self._authority = trustme.CA()
        self.file = directory / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *identities: str) -> tuple[str, str]:
        """A new certificate and key in ``<name>.pem`` and ``<name>.key``, over what was there."""
        certificate = self._authority.issue_cert(*identities)
        chain, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        key.write_bytes(certificate.private_key_pem.bytes())
        return str(chain), str(key)

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts this authority."""
        return ssl.create_default_context(cafile=str(self.file))
