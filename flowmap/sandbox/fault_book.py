"""Which faults are in force, for which requests, and how often they were committed. Pure."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flowmap.control.alibaba.api.models import camel
from flowmap.errors import ConfigError

Kind = Literal[
    "bad_element",
    "bom",
    "business",
    "clock",
    "cut",
    "data_object",
    "drip",
    "empty",
    "empty_list",
    "error",
    "gateway",
    "gzip",
    "gzip_bomb",
    "hang",
    "json_list",
    "json_null",
    "latency",
    "malformed",
    "no_data",
    "no_success",
    "oversized",
    "redirect",
    "throttle",
    "wrong_types",
]

DESCRIPTIONS: dict[Kind, str] = {
    "bad_element": "the right answer with three invalid elements in front",
    "bom": "the right answer behind a byte order mark",
    "business": "HTTP 200 with success: false, `status` as httpCode and `code` as errorCode",
    "clock": "the server's clock is off by `seconds`, for checking dates and in its Date header",
    "cut": "half of the right answer, then the connection closes",
    "data_object": "success: true with an object for data",
    "drip": "the right answer, a byte every `seconds`",
    "empty": "no body, with HTTP `status` (200)",
    "empty_list": "success: true with an empty list, whatever the catalog says",
    "error": "an HTML page with HTTP `status` (503), as proxies make them",
    "gateway": "a gateway error with HTTP `status` (403) and `code` (Forbidden.RAM)",
    "gzip": "the right answer, compressed",
    "gzip_bomb": "a small compressed body that becomes `size` bytes",
    "hang": "no answer until the client hangs up",
    "json_list": "the body []",
    "json_null": "the body null",
    "latency": "the right answer after `seconds`",
    "malformed": "JSON that stops in the middle",
    "no_data": "success: true with null for data",
    "no_success": "the right answer without success",
    "oversized": "a body of `size` blanks",
    "redirect": "HTTP `status` (302) to `location`",
    "throttle": "HTTP `status` (400), `code` (Throttling.User), with `retryAfterMs` or `retryAfter` if given",
    "wrong_types": "the right elements with every field of another type",
}
"""What each kind does; names in backquotes are fields of the fault, with their defaults."""


class Fault(BaseModel):
    """One thing that goes wrong."""

    model_config = ConfigDict(extra="forbid", alias_generator=camel, validate_by_name=True, validate_by_alias=True)

    kind: Kind
    """What goes wrong; see ``faults``."""
    operation: str | None = None
    """Only requests of this action, such as ``GetDeploymentsByIp``."""
    shape: str | None = None
    """Only questions of this shape: ``client``, ``sink``, ``source``, ``link``, ``exact``."""
    skip: int = Field(default=0, ge=0)
    """Matching requests that are let through first."""
    times: int | None = Field(default=None, ge=1)
    """Requests it applies to; None: every one."""
    seconds: float = 1.0
    """Of ``latency``, between the bytes of ``drip``, or by which the server's clock is off (``clock``)."""
    status: int | None = Field(default=None, ge=100, le=599)
    code: str | None = None
    message: str = "made by the sandbox"
    retry_after_ms: str | int | None = None
    """Value of an ``x-acs-retry-after`` header."""
    retry_after: str | int | None = None
    """Value of a ``Retry-After`` header."""
    size: int = Field(default=1 << 29, ge=0)
    """Bytes of ``oversized``, and of ``gzip_bomb`` after inflation."""
    location: str = "http://127.0.0.1:9/"
    """Where ``redirect`` points."""

    def headers(self) -> dict[str, str]:
        """Headers that ask to wait."""
        pairs = {"x-acs-retry-after": self.retry_after_ms, "retry-after": self.retry_after}
        return {name: str(value) for name, value in pairs.items() if value is not None}


_FAULTS = TypeAdapter(list[Fault])


def parse_faults(value: object) -> list[Fault]:
    """Check a list of faults; ConfigError names the place."""
    try:
        return _FAULTS.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"faults: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class FaultBook:
    """The faults in force, and how often each kind was committed."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._left: list[float] = []
        self._skip: list[int] = []
        self.committed: Counter[str] = Counter()

    def replace(self, faults: list[Fault]) -> None:
        """Put ``faults`` in force instead of those before."""
        self._faults = list(faults)
        self._left = [math.inf if fault.times is None else fault.times for fault in faults]
        self._skip = [fault.skip for fault in faults]

    @property
    def in_force(self) -> list[Fault]:
        """The faults that are not used up."""
        return [fault for fault, left in zip(self._faults, self._left, strict=True) if left > 0]

    @property
    def clock_offset(self) -> float:
        """Seconds by which the server's clock is off."""
        return sum(fault.seconds for fault in self.in_force if fault.kind == "clock")

    def take(self, operation: str, shape: str) -> Fault | None:
        """The first fault for this request, used up by one; None if there is none."""
        for position, fault in enumerate(self._faults):
            if fault.operation not in (None, operation) or fault.shape not in (None, shape):
                continue
            if self._left[position] <= 0:
                continue
            if self._skip[position] > 0:
                self._skip[position] -= 1
                continue
            self._left[position] -= 1
            self.committed[fault.kind] += 1
            return fault
        return None
