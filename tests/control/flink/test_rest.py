"""The REST interface: which JobManager is asked, with what, and what comes of it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from flowmap.control.flink.rest import Access, JobManagerRest
from flowmap.errors import AuthError, ConfigError, ProtocolError, Transient
from tests.control.flink.fake import FakeRest

FIRST, SECOND = "http://jm-1:8081", "http://jm-2:8081"


def get(access: Access, answers: dict[str, object], *path: str) -> tuple[object, FakeRest, JobManagerRest]:
    fake = FakeRest(answers)
    rest = JobManagerRest(access, transport=fake)
    return asyncio.run(rest.get(*path)), fake, rest


@pytest.mark.parametrize(
    ("prefix", "path", "expected"),
    [
        ("/", ("jobs", "overview"), f"{FIRST}/jobs/overview"),
        ("/flink/prod/", ("overview",), f"{FIRST}/flink/prod/overview"),
        ("/", ("taskmanagers", "10.0.0.1:6122-ab"), f"{FIRST}/taskmanagers/10.0.0.1:6122-ab"),
        ("/", ("taskmanagers", "a/b c"), f"{FIRST}/taskmanagers/a%2Fb%20c"),
    ],
)
def test_path(prefix: str, path: tuple[str, ...], expected: str) -> None:
    answer, fake, _ = get(Access("prod", (FIRST,), prefix), {expected: {"x": 1}}, *path)
    assert (answer, [url for url, _ in fake.sent]) == ({"x": 1}, [expected])


def test_the_next_job_manager_is_asked_and_stays() -> None:
    down = Transient("refused", reason="connect")
    answer, fake, rest = get(
        Access("prod", (FIRST, SECOND)), {f"{FIRST}/overview": down, f"{SECOND}/overview": {}}, "overview"
    )
    assert (answer, rest.url) == ({}, SECOND)
    assert [url for url, _ in fake.sent] == [f"{FIRST}/overview", f"{SECOND}/overview"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (401, AuthError),
        (403, AuthError),
        (500, Transient),
        (503, Transient),
        (302, ProtocolError),
        (b"<html>", ProtocolError),
        (Transient("refused"), Transient),
    ],
)
def test_errors(answer: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        get(Access("prod", (FIRST,)), {"/overview": answer}, "overview")


def test_what_is_not_found_is_none() -> None:
    assert get(Access("prod", (FIRST,)), {}, "jars")[0] is None


def test_each_job_manager_that_answers() -> None:
    answers = {f"{FIRST}/jobmanager/config": [1], f"{SECOND}/jobmanager/config": Transient("refused")}
    rest = JobManagerRest(Access("prod", (FIRST, SECOND)), transport=FakeRest(answers))
    assert asyncio.run(rest.get_each("jobmanager", "config")) == [[1]]
    with pytest.raises(Transient):
        asyncio.run(
            JobManagerRest(Access("prod", (SECOND,)), transport=FakeRest(answers)).get_each("jobmanager", "config")
        )


def test_credentials_are_read_at_every_call(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    fake = FakeRest({"/overview": {}})
    rest = JobManagerRest(Access("prod", (FIRST,), bearer_token_file=str(token)), transport=fake)
    asyncio.run(rest.get("overview"))
    token.write_text("two")
    asyncio.run(rest.get("overview"))
    assert [headers["authorization"] for _, headers in fake.sent] == ["Bearer one", "Bearer two"]
    login = Access("prod", (FIRST,), username="ops", password_file=str(token))
    _, fake, _ = get(login, {"/overview": {}}, "overview")
    assert fake.sent[0][1] == {"authorization": "Basic " + base64.b64encode(b"ops:two").decode()}


@pytest.mark.parametrize("text", [None, "", "a\nb"])
def test_unusable_token(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    with pytest.raises(AuthError, match="token"):
        get(Access("prod", (FIRST,), bearer_token_file=str(file)), {"/overview": {}}, "overview")


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_unusable_certificate(tmp_path: Path, key: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for path in (str(broken), str(tmp_path / "missing.pem")):
        access = Access("prod", (FIRST,), **{key: path}, **({"key_file": path} if key == "cert_file" else {}))
        with pytest.raises(ConfigError, match=f"prod: tls.{key}"):
            JobManagerRest(access)
