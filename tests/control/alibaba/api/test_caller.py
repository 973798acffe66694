"""Attempts, waits, deadline, breaker, pause and keys, on a script with its own clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flowmap.control.alibaba.api.caller import REFUSED_FOR
from flowmap.control.alibaba.api.client import DeploymentsAnswer
from flowmap.control.alibaba.credentials.base import StaticCredentials
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import (
    AuthError,
    BusinessError,
    ControlError,
    ProtocolError,
    Throttled,
    Transient,
)
from tests.support.control_clients import EPOCH, GOOD, NAMESPACE, Script, header, run_questions, script

SERVER_ERROR = HttpReply(503, {"content-type": "text/html"}, b"<html>down</html>")
BUSINESS = HttpReply(200, {}, b'{"success": false, "errorCode": "990301", "errorMessage": "no", "httpCode": 400}')


def gateway(status: int, code: str, message: str = "m", **headers: str) -> HttpReply:
    body = f'{{"Code": "{code}", "Message": "{message}", "RequestId": "G"}}'
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body.encode())


ENDINGS: list[tuple[str, list[HttpReply | BaseException], type[ControlError] | None, list[str | None]]] = [
    ("success", [GOOD], None, [None]),
    ("5xx, then success", [SERVER_ERROR, GOOD], None, ["server", None]),
    ("5xx three times", [SERVER_ERROR] * 3, Transient, ["server"] * 3),
    ("lost connection", [Transient("cut"), GOOD], None, ["transient", None]),
    ("TLS is not repeated", [Transient("bad certificate", reason="tls")], Transient, ["tls"]),
    ("malformed, then success", [HttpReply(200, {}, b"{"), GOOD], None, ["malformed", None]),
    ("empty body", [HttpReply(200, {}, b"")] * 3, ProtocolError, ["malformed"] * 3),
    ("no content", [HttpReply(204, {}, b"")] * 3, ProtocolError, ["malformed"] * 3),
    ("null", [HttpReply(200, {}, b"null")], ProtocolError, ["protocol"]),
    ("list", [HttpReply(200, {}, b"[]")], ProtocolError, ["protocol"]),
    ("success without data", [HttpReply(200, {}, b'{"success": true}')], ProtocolError, ["protocol"]),
    ("redirect", [HttpReply(302, {"location": "http://evil/"}, b"")], ProtocolError, ["protocol"]),
    ("business", [BUSINESS], BusinessError, ["business"]),
    ("gateway 4xx with a code", [gateway(404, "InvalidApi.NotFound")], BusinessError, ["business"]),
    ("4xx with a JSON list", [HttpReply(400, {}, b"[]")], ProtocolError, ["protocol"]),
    ("permission", [gateway(403, "Forbidden.RAM")], AuthError, ["auth"]),
    ("unknown key", [gateway(404, "InvalidAccessKeyId.NotFound")], AuthError, ["auth"]),
    ("bad signature", [gateway(400, "SignatureDoesNotMatch")], AuthError, ["auth"]),
    ("used nonce", [gateway(400, "SignatureNonceUsed"), GOOD], None, ["transient", None]),
    ("throttled, then success", [gateway(400, "Throttling.User"), GOOD], None, ["throttled", None]),
    ("429", [HttpReply(429, {}, b"")] * 3, Throttled, ["throttled"] * 3),
    (
        "business throttling",
        [HttpReply(200, {}, b'{"success": false, "errorCode": "Throttling.Api"}'), GOOD],
        None,
        ["throttled", None],
    ),
    (
        "business 503 inside a 200",
        [HttpReply(200, {}, b'{"success": false, "httpCode": 503}'), GOOD],
        None,
        ["transient", None],
    ),
]


@pytest.mark.parametrize(("name", "replies", "error", "reasons"), ENDINGS, ids=[row[0] for row in ENDINGS])
def test_how_a_question_ends(
    name: str, replies: list[HttpReply | BaseException], error: type[ControlError] | None, reasons: list[str | None]
) -> None:
    server = script(*replies)
    (result,) = run_questions(server.client())
    if error is None:
        assert isinstance(result, DeploymentsAnswer)
    else:
        assert type(result) is error
    assert server.reasons == reasons
    assert {operation for operation, _ in server.observed} == {"GetDeploymentsByIp"}


def test_every_attempt_has_its_own_nonce_date_and_signature() -> None:
    server = script(SERVER_ERROR, SERVER_ERROR, GOOD)
    server.took = 1.0
    run_questions(server.client())
    for name in ("x-acs-signature-nonce", "x-acs-date", "authorization"):
        assert len(set(header(server.sent, name))) == 3


def test_asked_at_is_that_of_the_last_attempt() -> None:
    server = script(SERVER_ERROR, GOOD)
    server.took = 2.0
    (answer,) = run_questions(server.client(chance=0.0))
    assert isinstance(answer, DeploymentsAnswer)
    assert (answer.asked_at, answer.answered_at) == (EPOCH + 2, EPOCH + 4)


def test_waits_are_random_below_a_growing_bound() -> None:
    server = script(*[SERVER_ERROR] * 3)
    run_questions(server.client(chance=0.5))
    assert server.slept == [0.1, 0.2]


def test_the_deadline_covers_all_attempts() -> None:
    server = script(*[Transient("slow", reason="timeout")] * 9)
    server.took = 4.0
    (result,) = run_questions(server.client(timeout=10.0, chance=0.0))
    assert isinstance(result, Transient)
    assert server.timeouts == [5.0, 5.0, 2.0]


def test_no_attempt_starts_after_the_deadline() -> None:
    server = script(*[Transient("slow", reason="timeout")] * 9)
    server.took = 5.0
    run_questions(server.client(timeout=10.0, chance=0.0))
    assert len(server.sent) == 2


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"x-acs-retry-after": "1500"}, 1.5),
        ({"x-acs-retry-after": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:03 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 2.5),
    ],
)
def test_hints_of_the_server(headers: dict[str, str], waited: float) -> None:
    server = script(HttpReply(429, headers, b""), GOOD)
    (result,) = run_questions(server.client(chance=0.0))
    assert isinstance(result, DeploymentsAnswer)
    assert sum(server.slept) == pytest.approx(waited, abs=0.02)


def test_throttling_pauses_every_question_to_the_endpoint() -> None:
    server = script(HttpReply(429, {"retry-after": "60"}, b""))
    client = server.client()
    first, second = run_questions(client, 2)
    assert isinstance(first, Throttled) and first.retry_after == 60
    assert isinstance(second, Throttled) and second.retry_after == pytest.approx(60, abs=0.1)
    assert len(server.sent) == 1
    assert client.paused_for == pytest.approx(60, abs=0.1)
    server.now += 60
    assert isinstance(run_questions(client)[0], DeploymentsAnswer)


def test_a_long_hint_is_capped_and_a_silly_one_ignored() -> None:
    capped = script(HttpReply(429, {"x-acs-retry-after": "9" * 400}, b""))
    client = capped.client()
    run_questions(client)
    assert client.paused_for == pytest.approx(120, abs=0.1)
    for hint in ("-5", "soon", "0", "1.5", "Thu, 01 Jan 1970 00:00:00 GMT"):
        server = script(HttpReply(429, {"retry-after": hint}, b""), GOOD)
        run_questions(server.client(chance=0.0))
        assert sum(server.slept) == 0


def test_the_breaker_opens_and_lets_one_probe_through() -> None:
    server = script(*[SERVER_ERROR] * 6, GOOD)
    client = server.client(chance=0.0)
    first, second, third = run_questions(client, 3)
    assert [type(error) for error in (first, second, third)] == [Transient] * 3
    assert isinstance(third, Transient) and third.reason == "breaker" and third.retry_after is not None
    assert "; the last one: HTTP 503: " in str(third), "the consequence does not hide the cause"
    assert client.breaker_open
    assert len(server.sent) == 5  # the sixth attempt was not made: the breaker opened on the fifth failure
    server.now += 5.0
    (probe,) = run_questions(client)
    assert isinstance(probe, Transient) and probe.reason == "server"
    assert len(server.sent) == 6
    server.now += 9.0
    assert len(server.sent) == 6 and isinstance(run_questions(client)[0], Transient)
    server.now += 1.0
    assert isinstance(run_questions(client)[0], DeploymentsAnswer)
    assert not client.breaker_open


def test_only_one_probe_at_a_time() -> None:
    class Slow(Script):
        async def send(self, *args: object, **options: object) -> HttpReply:
            await asyncio.sleep(0)
            return await super().send(*args, **options)  # type: ignore[arg-type]

    server = Slow([SERVER_ERROR] * 5)
    client = server.client(chance=0.0)
    run_questions(client, 2)
    server.now += 5.0

    async def both() -> Sequence[object]:
        question = client.get_deployments_by_ip
        return await asyncio.gather(
            question(namespace=NAMESPACE, dst_ip="10.0.0.1"),
            question(namespace=NAMESPACE, dst_ip="10.0.0.2"),
            return_exceptions=True,
        )

    first, second = asyncio.run(both())
    assert isinstance(first, DeploymentsAnswer)
    assert isinstance(second, Transient) and second.reason == "breaker"


def test_a_cancelled_probe_frees_its_place() -> None:
    server = script(*[SERVER_ERROR] * 5, asyncio.CancelledError(), GOOD)
    client = server.client(chance=0.0)
    run_questions(client, 2)
    server.now += 5.0
    with pytest.raises(asyncio.CancelledError):
        run_questions(client)
    assert isinstance(run_questions(client)[0], DeploymentsAnswer)
    assert server.reasons == ["server"] * 5 + [None]


def test_refusals_of_the_api_do_not_open_the_breaker() -> None:
    server = script(*[BUSINESS] * 9)
    client = server.client()
    assert all(isinstance(result, BusinessError) for result in run_questions(client, 9))
    assert not client.breaker_open


def test_refusal_is_kept_for_a_time() -> None:
    server = script(gateway(403, "Forbidden.RAM", "no permission"))
    client = server.client()
    first, second = run_questions(client, 2)
    assert isinstance(first, AuthError) and isinstance(second, AuthError)
    assert (second.code, len(server.sent)) == ("Forbidden.RAM", 1)
    server.now += REFUSED_FOR
    assert isinstance(run_questions(client)[0], DeploymentsAnswer)


def test_refusals_are_kept_by_scope() -> None:
    server = script(gateway(403, "Forbidden.RAM"), GOOD, GOOD)
    client = server.client()

    async def ask(namespace: str) -> DeploymentsAnswer:
        return await client.get_deployments_by_ip(namespace=namespace, dst_ip="10.0.0.1")

    with pytest.raises(AuthError):
        asyncio.run(ask("closed"))
    assert asyncio.run(ask("open")).deployments == ()
    with pytest.raises(AuthError, match="no further call"):
        asyncio.run(ask("closed"))
    assert len(server.sent) == 2


def test_a_rotated_secret_file_is_read_again_once(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old\n")
    server = script(gateway(400, "SignatureDoesNotMatch"), GOOD)
    client = server.client(credentials=StaticCredentials("id", access_key_secret_file=file))
    file.write_text("new\n")
    assert isinstance(run_questions(client)[0], DeploymentsAnswer)
    assert len(server.sent) == 2
    server.replies.extend([gateway(400, "SignatureDoesNotMatch")] * 2)
    assert isinstance(run_questions(client)[0], AuthError)
    assert len(server.sent) == 3


def test_a_clock_that_is_far_off_is_corrected_once() -> None:
    late = gateway(400, "InvalidTimeStamp.Expired", date="Thu, 01 Jan 2026 01:00:00 GMT")
    server = script(late, GOOD, GOOD)
    client = server.client()
    assert all(isinstance(answer, DeploymentsAnswer) for answer in run_questions(client, 2))
    assert header(server.sent, "x-acs-date")[1:] == ["2026-01-01T01:00:00Z"] * 2
    assert len(server.sent) == 3


def test_clock_correction_repeats_all_calls_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    late = gateway(400, "InvalidTimeStamp.Expired", date="Thu, 01 Jan 2026 01:00:00 GMT")
    server = script(late, late, late, GOOD, GOOD, GOOD)
    client, send = server.client(), server.send

    async def slow(*words: Any, **more: Any) -> Any:
        reply = await send(*words, **more)
        await asyncio.sleep(0.01)
        return reply

    async def ask() -> list[DeploymentsAnswer]:
        questions = [client.get_deployments_by_ip(namespace="ns", dst_ip=f"10.0.0.{n}") for n in range(3)]
        return await asyncio.gather(*questions)

    monkeypatch.setattr(server, "send", slow)
    assert len(asyncio.run(ask())) == 3
    assert header(server.sent, "x-acs-date")[3:] == ["2026-01-01T01:00:00Z"] * 3


def test_a_clock_that_is_right_but_refused_is_an_error() -> None:
    server = script(*[gateway(400, "InvalidTimeStamp.Expired", date="Thu, 01 Jan 2026 00:00:00 GMT")] * 3)
    assert isinstance(run_questions(server.client())[0], AuthError)
    assert len(server.sent) == 1


def test_clock_skew_is_the_difference_to_the_date_header() -> None:
    server = script(GOOD)
    server.wall = EPOCH - 90
    client = server.client()
    assert client.clock_skew is None
    run_questions(client)
    assert client.clock_skew == pytest.approx(90.5, abs=0.1)


def test_errors_have_code_and_request_id() -> None:
    (error,) = run_questions(script(gateway(404, "InvalidApi.NotFound", "not here")).client())
    assert isinstance(error, BusinessError)
    assert (error.code, error.request_id, error.status) == ("InvalidApi.NotFound", "G", 404)
    assert str(error) == "HTTP 404: InvalidApi.NotFound: not here"
