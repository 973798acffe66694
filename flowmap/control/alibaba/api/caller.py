"""Asks one endpoint: attempts, waits, the total deadline, the breaker and the pause of the whole endpoint.

What a request looks like and how its answer is read is given by the operation's client. Policy sits in ``retry``,
``breaker`` and ``refusals``; this is the shell that carries it out.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import flowmap
from flowmap.control.alibaba.credentials.base import Credentials, CredentialsProvider
from flowmap.control.alibaba.http.breaker import Breaker, Pause
from flowmap.control.alibaba.http.refusals import CLOCK_CODE, NEW_KEYS_DO_NOT_HELP, HttpReply, refusal_error
from flowmap.control.alibaba.http.retry import THROTTLE_WAIT, full_jitter, parse_date, server_hint, worth_repeating
from flowmap.control.alibaba.http.route import DIRECT, Route
from flowmap.control.alibaba.http.transport_api import Transport
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.errors import AuthError, ControlError, Throttled, Transient

T = TypeVar("T")

ATTEMPTS = 3
"""HTTP exchanges for one question, the first included; new keys and a corrected clock add one each."""

REFUSED_FOR = 60.0
"""Seconds for which a refusal of keys or permission is kept for its operation and scope: nothing runs hot on it."""

REFUSALS = 1000
"""Refusals kept; the oldest go first."""

USER_AGENT = f"flowmap/{flowmap.__version__}"

Observe = Callable[[str, float, str | None], None]
"""Told of every HTTP exchange: operation, seconds, and the reason of its failure (None: it succeeded)."""

Admit = Callable[[str, int], Awaitable[Callable[[], None]]]
"""Waited for before every HTTP exchange: operation, and which exchange of its question it is, from 1. What it returns
is called when the exchange is over."""


class Outgoing(NamedTuple):
    """A signed request."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CallResult(Generic[T]):
    """What came back, and between which moments (epoch seconds) it was true."""

    value: T
    asked_at: float
    answered_at: float


class _Refused(NamedTuple):
    """A refusal of keys that is still kept."""

    credentials: Credentials
    until: float
    error: AuthError


@dataclass(slots=True)
class _Call:
    """One question on its way."""

    operation: str
    scope: str
    deadline: float
    attempt: int = 1
    exchanges: int = 0
    """HTTP exchanges begun; more than attempts where keys were renewed or the clock corrected."""
    renewed: bool = False
    """Whether new keys were fetched for it."""
    correction: float = 0.0
    """Seconds added to the clock when it was last signed."""


def default_transport(route: Route = DIRECT) -> Transport:
    """Real HTTP. Imported here: httpx takes 0.2 s, which who brings a transport of their own should not pay."""
    from flowmap.control.alibaba.http.transport import HttpTransport

    return HttpTransport(route)


def no_observer(operation: str, seconds: float, reason: str | None) -> None:
    """Observe nothing."""


async def no_limit(operation: str, exchange: int) -> Callable[[], None]:
    """Admit everything at once."""
    return _nothing


def _nothing() -> None:
    """Nothing is held, so nothing is given back."""


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
        """``timeout`` is in seconds and covers all attempts and waits of one question, but not what ``admit`` takes
        before the first; one attempt gets at most half of it, so that a lost connection leaves time for another."""
        self._transport = transport
        self._credentials = credentials
        self._timeout = timeout
        self._attempts = attempts
        self._observe = observe
        self._admit = admit
        self._clock = clock
        self._breaker = Breaker()
        self._pause = Pause()
        self._throttled = 0
        self._refused: OrderedDict[tuple[str, str], _Refused] = OrderedDict()
        self._correction = 0.0
        self.clock_skew: float | None = None
        """Seconds the server's clock is ahead of ours, by its last ``Date`` header; None before the first answer."""

    @property
    def transport(self) -> Transport:
        return self._transport

    def configure(self, *, timeout: float, credentials: CredentialsProvider | None) -> None:
        """From the next call on; None leaves the keys as they are."""
        self._timeout = timeout
        if credentials is not None:
            self._credentials = credentials

    @property
    def breaker_open(self) -> bool:
        return self._breaker.is_open

    @property
    def paused_for(self) -> float:
        """Seconds the endpoint still asks to be left alone."""
        return self._pause.remaining(now=self._clock.monotonic())

    @property
    def resting_for(self) -> float:
        """Seconds for which a call would fail at once or wait: the pause, or the breaker's rest."""
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
        """Ask until there is an answer, an error that asking again cannot mend, or no time left.

        ``sign`` makes a fresh request for every attempt from keys and the time (epoch seconds); ``read`` turns a 200
        into a value or raises a ControlError. ``scope`` is what a permission may depend on besides the operation,
        such as the namespace.
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
        """Wait until an exchange may begin. The wait for the first is not the question's; later ones end with it."""
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
                "the control plane failed too often; not asked again yet", reason="breaker", retry_after=rest
            )
        started, asked_at = self._clock.monotonic(), self._clock.wall()
        reason: str | None = "cancelled"
        try:
            call.correction = self._correction
            outgoing = sign(credentials, asked_at + call.correction)
            patience = max(0.001, min(self._timeout / 2, self._left(call)))
            reply = await self._transport.send("GET", outgoing.url, outgoing.headers, timeout=patience)
            answered_at = self._clock.wall()
            self._note_clock(reply, (asked_at + answered_at) / 2)
            value = self._read(reply, read, credentials, answered_at)
            reason = None
        except ControlError as error:
            reason = error.reason
            raise
        finally:
            self._settle(call, reason, self._clock.monotonic() - started)
        return CallResult(value, asked_at, answered_at)

    def _read(self, reply: HttpReply, read: Callable[[HttpReply], T], credentials: Credentials, now: float) -> T:
        try:
            if reply.status != 200:
                raise refusal_error(reply, hint=server_hint(reply.headers, now=now + (self.clock_skew or 0.0)))
            return read(reply)
        except ControlError as error:
            # A gateway that disagrees with a signature quotes what it signed, and that has the token in it.
            error.args = tuple(_redact(arg, credentials) for arg in error.args)
            raise

    def _settle(self, call: _Call, reason: str | None, seconds: float) -> None:
        """Tell breaker and observer how an attempt ended."""
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
        """Seconds until the next attempt, or None if there is to be none."""
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
        # After throttling the pause does the waiting; this spreads those who waited for it.
        return full_jitter(call.attempt - 1, chance=self._clock.chance)

    def _wait_after_auth(self, call: _Call, credentials: Credentials, error: AuthError) -> float | None:
        code = error.code or ""
        # Compared with what this call was signed with: another call in flight may have corrected the clock meanwhile.
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
            raise last or Throttled("the control plane asked to be left alone", retry_after=rest)
        await self._clock.sleep(rest * (1 + 0.1 * self._clock.chance()))

    async def _keys(self, call: _Call) -> Credentials:
        try:
            async with asyncio.timeout(max(0.001, self._left(call))):
                return await self._credentials.get()
        except TimeoutError as error:
            raise Transient("the credentials did not come in time", reason="timeout") from error

    def _check_refused(self, call: _Call, credentials: Credentials) -> None:
        kept = self._refused.get((call.operation, call.scope))
        if kept is None:
            return
        if kept.credentials != credentials or self._clock.monotonic() >= kept.until:
            del self._refused[call.operation, call.scope]
            return
        raise AuthError(
            f"{kept.error} (not asked again for {kept.until - self._clock.monotonic():.0f} s)",
            code=kept.error.code,
            request_id=kept.error.request_id,
            status=kept.error.status,
        )

    def _note_clock(self, reply: HttpReply, middle: float) -> None:
        date = parse_date(reply.headers.get("date"))
        if date is not None:
            # The header has whole seconds, cut off: half a second is the middle of what it may have been.
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
