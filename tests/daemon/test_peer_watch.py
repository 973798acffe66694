"""Host names and files that name peers, while the daemon runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from flowmap.config import Config
from flowmap.daemon.peer_watch import PeerWatch, read_targets
from flowmap.errors import ConfigError
from flowmap.export.peers import Peers
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Address
from flowmap.system.names import run_loop


def config(**peers: list[str]) -> Config:
    return Config.model_validate({"export": {"peers": peers}})


def name(peers: Peers, ip: str, port: int) -> str:
    return peers.name(EndpointKey(Address.parse(ip), port, 6, True))


def look(watch: PeerWatch) -> None:
    with run_loop() as runner:
        runner.run(watch.look())


def test_names_and_files_become_addresses(tmp_path: Path) -> None:
    file = tmp_path / "kafka.json"
    file.write_text(json.dumps([{"targets": ["10.0.0.1:9092", "localhost:9093"], "labels": {"job": "x"}}]))
    given = config(here=["localhost:3306"], orders=[f"file_sd:{tmp_path}/*.json", "10.0.0.2:9092"], gone=["x.invalid"])
    watch = PeerWatch(given)
    assert watch.config.export.peers == {"orders": ("10.0.0.2:9092",)}, "nothing is resolved yet"
    look(watch)
    peers = watch.config.export.peers
    assert "127.0.0.1:3306" in peers["here"]
    assert peers["orders"][0] == "10.0.0.2:9092" and {"10.0.0.1:9092", "127.0.0.1:9093"} <= set(peers["orders"])
    assert list(watch.problems) == ["x.invalid"]
    assert Config.model_validate(watch.config.model_dump(mode="json")) == watch.config, "as a recording reads it"
    file.write_text("{")
    look(watch)
    assert watch.config.export.peers == peers, "what is known stays"
    assert len(watch.problems) == 2


def test_without_names_nothing_changes() -> None:
    given = config(orders=["10.0.0.0/24:9092"])
    assert PeerWatch(given).config is given


def test_a_change_is_applied() -> None:
    async def check() -> None:
        applied: list[Config] = []
        changed = asyncio.Event()

        async def apply(new: Config) -> None:
            applied.append(new)
            changed.set()

        watch = PeerWatch(config(here=["localhost:3306"]))
        watch.start(apply)
        async with asyncio.timeout(20):
            await changed.wait()
        await watch.aclose()
        assert name(watch.names, "127.0.0.1", 3306) == "here"
        assert "127.0.0.1:3306" in applied[0].export.peers["here"]
        watch.replace(config(there=["localhost:3306"]))
        assert name(watch.names, "127.0.0.1", 3306) == "there", "what was resolved is still known"

    with run_loop() as runner:
        runner.run(check())


YAML = "- targets: ['[2001:db8::1]:9092', db.example:1]\n"
FILES = [
    (YAML, [("2001:db8::1", 9092), ("db.example", 1)]),
    ("[]", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), FILES)
def test_files(tmp_path: Path, text: str, expected: list[tuple[str, int]]) -> None:
    (tmp_path / "a.yml").write_text(text)
    assert read_targets(str(tmp_path / "a.yml")) == expected


WRONG = [
    ("- targets: [10.0.0.1]\n", "is not host:port"),
    ("- targets: ['a:0']\n", "is not host:port"),
    ("- target: []\n", "file_sd"),
    ("3", "file_sd"),
    ("[", "not YAML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_files_that_are_not_valid(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_targets(f"{tmp_path}/*.yml")
    with pytest.raises(ConfigError, match="no such file"):
        read_targets(f"{tmp_path}/*.json")
