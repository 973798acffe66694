"""Parses the files of the vendor's tools: the SDKs' ini file and the command line tool's JSON. Pure.

Each parser returns the keys of a profile, :class:`OtherKind` for a kind without code in flowmap, or None if the file
has no such profile. Errors never quote the file: it contains secrets.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping
from dataclasses import dataclass

from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.errors import AuthError

INI_FILE = ".alibabacloud/credentials.ini"
CLI_FILE = ".aliyun/config.json"
"""Below the home directory."""


@dataclass(frozen=True, slots=True)
class OtherKind:
    """A profile whose kind needs the vendor's library."""

    kind: str


def parse_ini(text: str, *, profile: str | None, origin: str) -> Credentials | OtherKind | None:
    """The profile (``default`` if None) of the SDKs' ini file; a ``#`` starts a comment even inside a value."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        raise AuthError(f"{origin}: not an ini file") from None  # the parser's error quotes the lines
    name = profile or "default"
    if not parser.has_section(name):
        return None
    section = {key: value.split("#")[0].strip() for key, value in parser.items(name)}
    kind = section.get("type", "access_key")
    if kind not in ("access_key", "sts"):
        return OtherKind(kind)
    return _credentials(section, "security_token", f"{origin}, profile {name}")


def parse_cli(text: str, *, profile: str | None, origin: str) -> Credentials | OtherKind | None:
    """The profile (the file's ``current`` if None) of the command line tool's JSON."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise AuthError(f"{origin}: not JSON") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("profiles", []), list):
        raise AuthError(f"{origin}: not a configuration of the command line tool")
    name = profile or tree.get("current") or "default"
    found = next(
        (item for item in tree.get("profiles", []) if isinstance(item, dict) and item.get("name") == name), None
    )
    if found is None:
        return None
    section = {key: value for key, value in found.items() if isinstance(value, str)}
    mode = section.get("mode", "AK")
    if mode not in ("AK", "StsToken"):
        return OtherKind(mode)
    if mode == "AK":
        section.pop("sts_token", None)
    if not section.get("access_key_id"):
        return None  # the tool writes an empty profile when it is first started
    return _credentials(section, "sts_token", f"{origin}, profile {name}")


def _credentials(section: Mapping[str, str], token: str, origin: str) -> Credentials:
    for name in ("access_key_id", "access_key_secret"):
        if not section.get(name):
            raise AuthError(f"{origin}: {name} is missing")
    return Credentials(
        section["access_key_id"], section["access_key_secret"], section.get(token) or None, origin=origin
    )
