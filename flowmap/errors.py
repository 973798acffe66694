"""Every error that flowmap raises on purpose, in one tree, split by who must act.

    FlowmapError
    ├── ConfigError          operator: the configuration is wrong (exit 78)
    ├── DecodeError          no action: malformed bytes from the kernel or a peer; counted and skipped
    ├── SourceError          operator: a source of flows cannot be opened or read
    │   └── SourceDenied     operator: a permission or capability is missing
    ├── ControlError         a question to the control plane has no usable answer
    │   ├── BadRequest       caller: a parameter is wrong; no call was made
    │   ├── AuthError        operator: credentials or permissions
    │   ├── Throttled        no action: retried after ``retry_after`` seconds
    │   ├── Transient        no action: transport failure, time-out or 5xx; retried
    │   ├── ProtocolError    vendor or operator of a proxy: the answer is not one of the API
    │   └── BusinessError    operator: ``success: false``; see ``code`` and ``request_id``
    ├── HistoryError         operator: the history file or its store cannot be used now; see ``reason``
    │   └── StoreError       operator: the store of all hosts does not answer a question
    ├── FleetError           operator: the server that a fleet shares cannot be used now; see ``reason``
    └── QueryError           user: the query cannot be answered as asked

Any other exception that reaches the user is a defect of flowmap (:func:`describe_defect`).
"""

from __future__ import annotations

import platform

from flowmap import __version__

REPORT_TO = "the supplier of your copy (this version names no public tracker)"


class FlowmapError(Exception):
    """Root of the tree; ``str()`` is one line with what happened and where."""


def describe_defect(error: BaseException) -> str:
    """The message for an exception that is not a :class:`FlowmapError`: what happened, and what to report to whom."""
    return (
        f"defect of flowmap {__version__}: {type(error).__name__}: {error}; please report it to {REPORT_TO}: the "
        f"command, its output or log with --log-level debug, `flowmap config` (it masks secrets), Python "
        f"{platform.python_version()}, Linux {platform.release()}"
    )


class ConfigError(FlowmapError):
    """The configuration cannot be used; the message names the key, and the file and line if known."""


class DecodeError(FlowmapError):
    """Malformed bytes; the message names the structure and the offset."""


class SourceError(FlowmapError):
    """A source of flows failed; ``remedy`` is what the operator can do."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class SourceDenied(SourceError):
    """The kernel refused because a permission is missing."""


class ControlError(FlowmapError):
    """A question to the control plane has no usable answer.

    ``reason`` is from a small fixed set and serves as a metric label: that of the class, or a finer one (``breaker``,
    ``connect``, ``dns``, ``proxy``, ``server``, ``timeout``, ``tls`` of :class:`Transient`; ``malformed`` of
    :class:`ProtocolError`). ``code``, ``request_id`` and ``status`` are the API's own, if it gave them.
    ``retry_after`` is in seconds.
    """

    reason: str = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason
        self.code = code
        self.request_id = request_id
        self.status = status
        self.retry_after = retry_after


UNREACHED = frozenset(("breaker", "connect", "dns", "proxy", "timeout", "tls"))
"""Reasons that are independent of the question: no other question would get an answer now."""


class BadRequest(ControlError):
    """A parameter is wrong; no call was made."""

    reason = "bad_request"


class AuthError(ControlError):
    """Credentials or permissions were refused."""

    reason = "auth"


class Throttled(ControlError):
    """The API asks for fewer calls; ``retry_after`` is when to call again, if given."""

    reason = "throttled"


class Transient(ControlError):
    """Transport failure, time-out or a 5xx answer; a retry may help."""

    reason = "transient"


class ProtocolError(ControlError):
    """The answer is not one of the API: malformed, oversized, redirected, or without ``success``."""

    reason = "protocol"


class BusinessError(ControlError):
    """The API answered ``success: false``."""

    reason = "business"


class HistoryError(FlowmapError):
    """The history file, or the store that it is sent to, cannot be used now.

    ``reason`` is from a small fixed set and serves as a metric label: ``corrupt``, ``version``, ``foreign``,
    ``disk_full``, ``read_only``, ``locked``, ``cannot_open``, ``io``, ``error``; of ClickHouse also ``connect``,
    ``timeout``, ``tls``, ``auth``, ``denied``, ``tables``, ``busy``, ``server``, ``protocol``. ``remedy`` is what the
    operator can do.
    """

    def __init__(self, message: str, *, reason: str = "error", remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy


class StoreError(HistoryError):
    """ClickHouse, which a daemon uses as its history, cannot be used now. ``reason`` as of a HistoryError."""


class FleetError(FlowmapError):
    """The server that a fleet shares cannot be used now.

    ``reason`` is from a small fixed set and serves as a metric label: ``account``, ``auth``, ``connect``, ``denied``,
    ``full``, ``library``, ``loading``, ``protocol``, ``read_only``, ``script``, ``timeout``, ``tls``, ``version``,
    ``error``.
    """

    def __init__(self, message: str, *, reason: str = "error") -> None:
        super().__init__(message)
        self.reason = reason


class QueryError(FlowmapError):
    """A query cannot be answered as asked; ``field`` names the parameter at fault."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
