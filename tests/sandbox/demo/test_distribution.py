"""What a distribution must have, and the commands made from it. A real one is started by tests/flink."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowmap.errors import FlowmapError
from flowmap.sandbox.demo.distribution import Distribution


def home(place: Path, *jars: str) -> Path:
    (place / "home" / "lib").mkdir(parents=True)
    for name in jars:
        (place / "home" / "lib" / name).touch()
    return place / "home"


def test_no_distribution(tmp_path: Path) -> None:
    with pytest.raises(FlowmapError, match=r"home: no lib/flink-dist-\*.jar; give the directory of an unpacked Flink"):
        Distribution(home(tmp_path, "log4j-core.jar"), tmp_path)


def test_no_jdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: "/bin/java" if tool == "java" else None)
    with pytest.raises(FlowmapError, match="--flink needs javac: install a JDK 17"):
        Distribution(home(tmp_path, "flink-dist-2.3.0.jar"), tmp_path)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    made = Distribution(home(tmp_path, "flink-dist-2.3.0.jar", "log4j-core.jar"), tmp_path)
    command = made.job_manager({"rest.port": "8081"})
    assert command[-2:] == ["--executionMode", "cluster"]  # what follows it, Flink ignores
    assert command[command.index("-cp") + 1].count(".jar") == 2
    assert "rest.port=8081" in command
    assert "taskmanager.memory.managed.size=0m" in made.task_manager({})
