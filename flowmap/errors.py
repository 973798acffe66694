"""Every error flowmap raises on purpose, in one tree, split by who must act.

    FlowmapError
    ├── ConfigError          the operator: the configuration is wrong (exit 78)
    ├── DecodeError          nobody: the peer or the kernel sent nonsense; it is counted and skipped
    ├── SourceError          the operator or the kernel: a source of flows cannot be opened or read
    │   └── SourceDenied     the operator: a permission or capability is missing
    ├── ControlError         the control plane did not answer a question
    │   ├── BadRequest       the caller: a parameter is wrong; no call was made
    │   ├── AuthError        the operator: credentials or permissions
    │   ├── Throttled        nobody: wait ``retry_after`` seconds
    │   ├── Transient        nobody: transport, 5xx, time-out; asking again may help
    │   ├── ProtocolError    the vendor or a proxy: an answer that is not one of the API
    │   └── BusinessError    the operator: ``success: false``; see ``code`` and ``request_id``
    ├── HistoryError         the operator: the file of the past cannot be read or written now; see ``reason``
    └── QueryError           the user: a query that cannot be answered as asked

Anything else that reaches the user is a defect of flowmap (:func:`describe_defect`).
"""

from __future__ import annotations

import platform

from flowmap import __version__

REPORT_TO = "whoever you have flowmap from (this version names no public tracker)"


class FlowmapError(Exception):
    """Root of the tree; ``str()`` is one line that says what and where."""


def describe_defect(error: BaseException) -> str:
    """What happened, what to send and to whom, for an exception that is no :class:`FlowmapError`."""
    return (
        f"defect of flowmap {__version__}: {type(error).__name__}: {error}; please report it to {REPORT_TO}: the "
        f"command, its output or log with --log-level debug, `flowmap config` (it masks secrets), Python "
        f"{platform.python_version()}, Linux {platform.release()}"
    )


class ConfigError(FlowmapError):
    """The configuration cannot be used; names the key, and the file and line where known."""


class DecodeError(FlowmapError):
    """Bytes that are not what they should be; names the structure and the offset."""


class SourceError(FlowmapError):
    """A source of flows failed; ``remedy`` says what the operator can do."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class SourceDenied(SourceError):
    """The kernel refused for want of a permission."""


class ControlError(FlowmapError):
    """A question to the control plane that got no usable answer.

    ``reason`` is from a small fixed set and serves as a metric label: the one of the class, or a finer one given by
    the raiser (``breaker``, ``connect``, ``dns``, ``proxy``, ``server``, ``timeout``, ``tls``: :class:`Transient`;
    ``malformed``: :class:`ProtocolError`). ``code``, ``request_id`` and ``status`` are the API's own, where it gave
    them. ``retry_after`` is in seconds.
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
"""Reasons that say nothing about the question: no other one would get an answer now."""


class BadRequest(ControlError):
    """A parameter is wrong; no call was made."""

    reason = "bad_request"


class AuthError(ControlError):
    """Credentials or permissions were refused."""

    reason = "auth"


class Throttled(ControlError):
    """The API asks for fewer calls; wait ``retry_after`` seconds where given."""

    reason = "throttled"


class Transient(ControlError):
    """Transport failure, time-out or a 5xx answer; asking again may help."""

    reason = "transient"


class ProtocolError(ControlError):
    """An answer that is not one of the API: malformed, oversized, redirected, without ``success``."""

    reason = "protocol"


class BusinessError(ControlError):
    """The API answered ``success: false``."""

    reason = "business"


class HistoryError(FlowmapError):
    """The history file cannot be used now.

    ``reason`` is from a small fixed set and serves as a metric label: ``corrupt``, ``version``, ``foreign``,
    ``disk_full``, ``read_only``, ``locked``, ``cannot_open``, ``io``, ``error``; ``remedy`` says what the operator can
    do.
    """

    def __init__(self, message: str, *, reason: str = "error", remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy


class QueryError(FlowmapError):
    """A query that cannot be answered as asked; ``field`` names the parameter at fault."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
