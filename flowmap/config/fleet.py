"""The section ``fleet`` of the configuration."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from flowmap.config import values
from flowmap.config.fields import NEXT_CALL, ClientTls, Section

ServerUrl = Annotated[str, AfterValidator(values.parse_valkey)]


class FleetConfig(Section):
    """Answers and call budget that many hosts share, through Valkey or Redis (needs flowmap[fleet])."""

    url: ServerUrl | None = Field(
        default=None,
        description="rediss://[user@]host[:port][/database] of Valkey or Redis. redis:// only for loopback, or with "
        "insecure. null: this host shares nothing.",
    )
    password_file: str | None = Field(default=None, min_length=1, description="File with the password of the user.")
    tls: ClientTls = Field(default=ClientTls(), description="TLS, with rediss://.")
    insecure: bool = Field(default=False, description="Allow redis:// to another host: addresses cross the network.")
    scope: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]*$",
        max_length=64,
        description="Hosts share if endpoint, access key and this name are equal. Required with temporary keys: a name "
        "for their role.",
    )
    trust: Annotated[Literal["own", "all"], NEXT_CALL] = Field(
        default="all",
        description="all: answers of other hosts count if the fleet's key signed them. own: only the budget is shared.",
    )
    size: Annotated[int | None, NEXT_CALL] = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Number of hosts, at least. A host that cannot reach the server makes rate / size calls. Required.",
    )
    key_file: Annotated[str | None, NEXT_CALL] = Field(
        default=None,
        min_length=1,
        description="File with the fleet's key, the same on every host: 32 or more characters. Further lines are older "
        "keys that are still accepted. Required with trust: all.",
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.url is None:
            return self
        server = values.split_valkey(self.url)
        if not (server.tls or self.insecure or _is_loopback(server.host)):
            raise ValueError(
                f"url {self.url}: every address and answer would cross the network unencrypted; use rediss://, or "
                "insecure: true if the network is protected otherwise"
            )
        if not server.tls and self.tls != ClientTls():
            raise ValueError("tls: needs a url with rediss://")
        if self.size is None:
            raise ValueError("size: is missing: the number of hosts that share control_plane.rate")
        if self.trust == "all" and self.key_file is None:
            raise ValueError("key_file: is missing: without it anybody with access to the server could name flows")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
