"""The active faults, the requests they match, and how often each was applied. Pure."""

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
    "bom": "the right answer after a byte order mark",
    "business": "HTTP 200 with success: false, `status` as httpCode and `code` as errorCode",
    "clock": "the server's clock is off by `seconds`, in its date check and its Date header",
    "cut": "half of the right answer, then the connection closes",
    "data_object": "success: true with an object for data",
    "drip": "the right answer, a byte every `seconds`",
    "empty": "no body, with HTTP `status` (200)",
    "empty_list": "success: true with an empty list",
    "error": "an HTML page with HTTP `status` (503), as from a proxy",
    "gateway": "a gateway error with HTTP `status` (403) and `code` (Forbidden.RAM)",
    "gzip": "the right answer, compressed",
    "gzip_bomb": "a small compressed body that becomes `size` bytes",
    "hang": "no answer until the client closes the connection",
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
"""The effect of each kind. Names in backquotes are fields of the fault, with their defaults."""


class Fault(BaseModel):
    """A fault and the requests it applies to."""

    model_config = ConfigDict(extra="forbid", alias_generator=camel, validate_by_name=True, validate_by_alias=True)

    kind: Kind
    """The effect; see ``DESCRIPTIONS``."""
    operation: str | None = None
    """Restricts the fault to an action, such as ``GetDeploymentsByIp``."""
    shape: str | None = None
    """Restricts the fault to a shape: ``client``, ``sink``, ``source``, ``link``, ``exact``."""
    skip: int = Field(default=0, ge=0)
    """Matching requests without the fault at first."""
    times: int | None = Field(default=None, ge=1)
    """Number of requests with the fault; None: all."""
    seconds: float = 1.0
    """Delay of ``latency``, interval of ``drip``, or clock offset of ``clock``."""
    status: int | None = Field(default=None, ge=100, le=599)
    code: str | None = None
    message: str = "made by the sandbox"
    retry_after_ms: str | int | None = None
    """Value of an ``x-acs-retry-after`` header."""
    retry_after: str | int | None = None
    """Value of a ``Retry-After`` header."""
    size: int = Field(default=1 << 29, ge=0)
    """Bytes of ``oversized``, and of ``gzip_bomb`` after decompression."""
    location: str = "http://127.0.0.1:9/"
    """Target of ``redirect``."""

    def headers(self) -> dict[str, str]:
        """Headers that ask the client to wait."""
        pairs = {"x-acs-retry-after": self.retry_after_ms, "retry-after": self.retry_after}
        return {name: str(value) for name, value in pairs.items() if value is not None}


_FAULTS = TypeAdapter(list[Fault])


def parse_faults(value: object) -> list[Fault]:
    """Parse a list of faults; ConfigError names the place of an error."""
    try:
        return _FAULTS.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"faults: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class FaultBook:
    """The active faults, and how often each kind was applied."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._left: list[float] = []
        self._skip: list[int] = []
        self.applied: Counter[str] = Counter()

    def replace(self, faults: list[Fault]) -> None:
        """Replace the active faults by ``faults``."""
        self._faults = list(faults)
        self._left = [math.inf if fault.times is None else fault.times for fault in faults]
        self._skip = [fault.skip for fault in faults]

    @property
    def active(self) -> list[Fault]:
        """The faults that may still apply."""
        return [fault for fault, left in zip(self._faults, self._left, strict=True) if left > 0]

    @property
    def clock_offset(self) -> float:
        """Offset of the server's clock in seconds."""
        return sum(fault.seconds for fault in self.active if fault.kind == "clock")

    def match(self, operation: str, shape: str) -> Fault | None:
        """The first fault for this request, counted as applied; None if none matches."""
        for position, fault in enumerate(self._faults):
            if fault.operation not in (None, operation) or fault.shape not in (None, shape):
                continue
            if self._left[position] <= 0:
                continue
            if self._skip[position] > 0:
                self._skip[position] -= 1
                continue
            self._left[position] -= 1
            self.applied[fault.kind] += 1
            return fault
        return None
