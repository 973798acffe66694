"""What check says about names of peers."""

from __future__ import annotations

from flowmap.cli.check.peers import look
from flowmap.config import Config


def findings(**peers: list[str]) -> list[tuple[str, str]]:
    config = Config.model_validate({"export": {"peers": peers}})
    return [(one.level, one.message) for one in look(config)]


def test_addresses_need_no_check() -> None:
    assert findings(orders=["10.0.0.0/24:9092"]) == []


def test_names_that_resolve() -> None:
    ((level, message),) = findings(here=["localhost:3306"], orders=["10.0.0.9"])
    assert level == "ok" and message.startswith("2 peers with ")


def test_problems_and_conflicts_are_named() -> None:
    found = findings(one=["localhost:3306"], two=["127.0.0.1:3306"], three=["x.invalid", "file_sd:/no/such/file"])
    assert [level for level, _ in found] == ["ok", "degraded", "degraded", "degraded"]
    said = [message for _, message in found]
    assert said[1].startswith("x.invalid: ") and said[2].startswith("file_sd:/no/such/file: ")
    assert said[3] == "127.0.0.1:3306 is named two and one: two counts", "what is written down counts"
