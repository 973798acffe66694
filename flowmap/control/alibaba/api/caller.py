"""Calls one endpoint with attempts, waits, a total deadline, a breaker, and pauses for the whole endpoint.

The client of the operation makes the request and reads the answer. ``retry``, ``breaker`` and ``refusals`` decide; this
module acts.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import flowmap
from flowmap.control.alibaba.api.refusals import CLOCK_CODE, NEW_KEYS_DO_NOT_HELP, refusal_error
from flowmap.control.alibaba.credentials.base import Credentials, CredentialsProvider
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.http.breaker import Breaker, Pause
from flowmap.control.http.retry import THROTTLE_WAIT, full_jitter, parse_date, server_hint, worth_repeating
from flowmap.control.http.route import DIRECT, Route
from flowmap.control.http.transport_api import HttpReply, Transport
from flowmap.errors import AuthError, ControlError, Throttled, Transient

T = TypeVar("T")

ATTEMPTS = 3
"""HTTP exchanges for one call, including the first. New keys and a corrected clock add one each."""

REFUSED_FOR = 60.0
"""Seconds for which a refusal of keys or permission answers further calls of its operation and scope."""

REFUSALS = 1000
"""Refusals kept; beyond it the oldest are dropped."""

USER_AGENT = f"flowmap/{flowmap.__version__}"

Observe = Callable[[str, float, str | None], None]
"""Called after every HTTP exchange: operation, seconds, and the reason of its failure (None: it succeeded)."""

Admit = Callable[[str, int], Awaitable[Callable[[], None]]]
"""Awaited before every HTTP exchange: operation, and number of the exchange within its call, from 1. The result is
called after the exchange."""


class Outgoing(NamedTuple):
    """A signed request."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CallResult(Generic[T]):
    """The value of an answer, and the moments (epoch seconds) between which it was true."""

    value: T
    asked_at: float
    answered_at: float


class _Refused(NamedTuple):
    """A refusal that answers further calls."""

    credentials: Credentials
    until: float
    error: AuthError


@dataclass(slots=True)
class _Call:
    """State of one call."""

    operation: str
    scope: str
    deadline: float
    attempt: int = 1
    exchanges: int = 0
    """HTTP exchanges begun; more than ``attempt`` if keys were renewed or the clock corrected."""
    renewed: bool = False
    """Whether its keys were renewed."""
    correction: float = 0.0
    """Seconds added to the clock for the last signature."""


def default_transport(route: Route = DIRECT) -> Transport:
    """HTTP over the network. Imported on use: httpx takes 0.2 s to import."""
    from flowmap.control.http.transport import HttpTransport

    return HttpTransport(route)


def no_observer(operation: str, seconds: float, reason: str | None) -> None:
    """Observe nothing."""


async def no_limit(operation: str, exchange: int) -> Callable[[], None]:
    """Admit everything at once."""
    return _nothing


def _nothing() -> None:
    """Release nothing."""


class Caller:
    """Calls the operations of one endpoint with one provider of keys."""

    def __init__(
        self,
        *,
        transport: Transport,
        credentials: CredentialsProvider,
        timeout: float = 10.0,
        attempts: int = ATTEMPTS,
        observe: Observe = no_observer,
        admit: Admit = no_limit,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``timeout``: seconds for all attempts and waits of one call, without the admission of the first attempt.
        One attempt gets at most half of it, so that a lost connection leaves time for another."""
        self._transport = transport
        self._credentials = credentials
        self._timeout = timeout
        self._attempts = attempts
        self._observe = observe
        self._admit = admit
        self._clock = clock
        self._breaker = Breaker()
        self._failure = ""  # what the last exchange that failed said: the cause while calls are suspended
        self._pause = Pause()
        self._throttled = 0
        self._refused: OrderedDict[tuple[str, str], _Refused] = OrderedDict()
        self._correction = 0.0
        self.clock_skew: float | None = None
        """Seconds by which the server's clock is ahead of this host's, by the last ``Date`` header; None before it."""

    @property
    def transport(self) -> Transport:
        return self._transport

    def configure(self, *, timeout: float, credentials: CredentialsProvider | None) -> None:
        """Apply from the next call on; None keeps the present keys."""
        self._timeout = timeout
        if credentials is not None:
            self._credentials = credentials

    async def keys(self) -> Credentials:
        """The keys of the next call; AuthError or Transient if there are none."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._credentials.get()
        except TimeoutError as error:
            raise Transient("no credentials within the timeout", reason="timeout") from error

    @property
    def breaker_open(self) -> bool:
        return self._breaker.is_open

    @property
    def paused_for(self) -> float:
        """Seconds left of the pause that the server asked for."""
        return self._pause.remaining(now=self._clock.monotonic())

    @property
    def resting_for(self) -> float:
        """Seconds for which a call would fail at once or wait: the pause, or the rest of the open breaker."""
        now = self._clock.monotonic()
        return max(self._pause.remaining(now=now), self._breaker.remaining(now=now))

    async def call(
        self,
        operation: str,
        *,
        sign: Callable[[Credentials, float], Outgoing],
        read: Callable[[HttpReply], T],
        scope: str = "",
    ) -> CallResult[T]:
        """Try until there is an answer, an error that a retry cannot resolve, or no time left.

        ``sign`` makes the request of every attempt from keys and time (epoch seconds). ``read`` turns a reply with
        status 200 into a value or raises a ControlError. ``scope``: what a permission may depend on besides the
        operation, such as the namespace.
        """
        call = _Call(operation, scope, self._clock.monotonic() + self._timeout)
        last: ControlError | None = None
        while True:
            await self._wait_for_pause(call, last)
            credentials = await self._keys(call)
            self._check_refused(call, credentials)
            release = await self._admission(call, last)
            try:
                return await self._attempt(call, credentials, sign, read, last)
            except ControlError as error:
                last = error
                wait = self._wait_after(call, credentials, error)
            finally:
                release()
            if wait is None or self._left(call) <= wait:
                raise last
            await self._clock.sleep(wait)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _admission(self, call: _Call, last: ControlError | None) -> Callable[[], None]:
        """Wait until an exchange may begin. The first wait does not count against the deadline; later ones do."""
        call.exchanges += 1
        began = self._clock.monotonic()
        if last is None:
            release = await self._admit(call.operation, call.exchanges)
            call.deadline += self._clock.monotonic() - began
            return release
        try:
            async with asyncio.timeout(max(0.001, self._left(call))):
                return await self._admit(call.operation, call.exchanges)
        except TimeoutError:
            raise last from None

    async def _attempt(
        self,
        call: _Call,
        credentials: Credentials,
        sign: Callable[[Credentials, float], Outgoing],
        read: Callable[[HttpReply], T],
        last: ControlError | None,
    ) -> CallResult[T]:
        if not self._breaker.admit(now=self._clock.monotonic()):
            rest = self._breaker.remaining(now=self._clock.monotonic())
            raise last or Transient(
                f"calls are suspended after several failures in a row; the last one: {self._failure}",
                reason="breaker",
                retry_after=rest,
            )
        started, asked_at = self._clock.monotonic(), self._clock.wall()
        reason: str | None = "cancelled"
        try:
            call.correction = self._correction
            outgoing = sign(credentials, asked_at + call.correction)
            attempt_timeout = max(0.001, min(self._timeout / 2, self._left(call)))
            reply = await self._transport.send("GET", outgoing.url, outgoing.headers, timeout=attempt_timeout)
            answered_at = self._clock.wall()
            self._note_clock(reply, (asked_at + answered_at) / 2)
            value = self._read(reply, read, credentials, answered_at)
            reason = None
        except ControlError as error:
            reason, self._failure = error.reason, str(error)
            raise
        finally:
            self._record(call, reason, self._clock.monotonic() - started)
        return CallResult(value, asked_at, answered_at)

    def _read(self, reply: HttpReply, read: Callable[[HttpReply], T], credentials: Credentials, now: float) -> T:
        try:
            if reply.status != 200:
                raise refusal_error(reply, hint=server_hint(reply.headers, now=now + (self.clock_skew or 0.0)))
            return read(reply)
        except ControlError as error:
            # A gateway that rejects a signature quotes the signed text, which contains the token.
            error.args = tuple(_redact(arg, credentials) for arg in error.args)
            raise

    def _record(self, call: _Call, reason: str | None, seconds: float) -> None:
        """Report the outcome of an attempt to the breaker and the observer."""
        if reason == "cancelled":
            self._breaker.abandoned()
            return
        if reason in (None, "auth", "business", "throttled"):
            self._breaker.succeeded()
        else:
            self._breaker.failed(now=self._clock.monotonic())
        if reason is None:
            self._throttled = 0
        self._observe(call.operation, seconds, reason)

    def _wait_after(self, call: _Call, credentials: Credentials, error: ControlError) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if isinstance(error, AuthError):
            return self._wait_after_auth(call, credentials, error)
        if isinstance(error, Throttled) or error.retry_after is not None:
            self._throttled += 1
            rest = error.retry_after or full_jitter(self._throttled, chance=self._clock.chance, first=THROTTLE_WAIT)
            self._pause.extend(rest, now=self._clock.monotonic())
            if rest >= self._left(call):
                return None
        if not worth_repeating(error, attempt=call.attempt) or call.attempt >= self._attempts:
            return None
        call.attempt += 1
        # After throttling the call waits for the pause; this spreads the calls that waited together.
        return full_jitter(call.attempt - 1, chance=self._clock.chance)

    def _wait_after_auth(self, call: _Call, credentials: Credentials, error: AuthError) -> float | None:
        code = error.code or ""
        # Compared with the correction of this call: another call in flight may have corrected the clock meanwhile.
        if code == CLOCK_CODE and self.clock_skew is not None and abs(self.clock_skew - call.correction) > 60:
            self._correction = self.clock_skew
            return 0.0
        if not call.renewed and not code.startswith(NEW_KEYS_DO_NOT_HELP) and self._credentials.reject(credentials):
            call.renewed = True
            return 0.0
        self._refused[call.operation, call.scope] = _Refused(credentials, self._clock.monotonic() + REFUSED_FOR, error)
        if len(self._refused) > REFUSALS:
            self._refused.popitem(last=False)
        return None

    async def _wait_for_pause(self, call: _Call, last: ControlError | None) -> None:
        rest = self._pause.remaining(now=self._clock.monotonic())
        if rest <= 0:
            return
        if rest >= self._left(call):
            raise last or Throttled("the control plane asked for a pause", retry_after=rest)
        await self._clock.sleep(rest * (1 + 0.1 * self._clock.chance()))

    async def _keys(self, call: _Call) -> Credentials:
        try:
            async with asyncio.timeout(max(0.001, self._left(call))):
                return await self._credentials.get()
        except TimeoutError as error:
            raise Transient("no credentials within the timeout", reason="timeout") from error

    def _check_refused(self, call: _Call, credentials: Credentials) -> None:
        kept = self._refused.get((call.operation, call.scope))
        if kept is None:
            return
        if kept.credentials != credentials or self._clock.monotonic() >= kept.until:
            del self._refused[call.operation, call.scope]
            return
        raise AuthError(
            f"{kept.error} (no further call for {kept.until - self._clock.monotonic():.0f} s)",
            code=kept.error.code,
            request_id=kept.error.request_id,
            status=kept.error.status,
        )

    def _note_clock(self, reply: HttpReply, middle: float) -> None:
        date = parse_date(reply.headers.get("date"))
        if date is not None:
            # The header is cut to whole seconds; half a second more is the middle of the possible range.
            self.clock_skew = date + 0.5 - middle

    def _left(self, call: _Call) -> float:
        return call.deadline - self._clock.monotonic()


def _redact(value: object, credentials: Credentials) -> object:
    if not isinstance(value, str):
        return value
    for secret in (credentials.security_token, credentials.access_key_secret):
        if secret:
            value = value.replace(secret, "<secret>")
    return value
