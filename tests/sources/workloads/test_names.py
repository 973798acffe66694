"""Names of containers from the names of log files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowmap.sources.workloads import names
from flowmap.sources.workloads.names import ContainerName, ContainerNames

ID, OTHER = "0123456789abcdef" * 4, "f" * 64
FILES = [
    (f"orders-tm-1_flink_taskmanager-{ID}.log", ContainerName("taskmanager", "flink/orders-tm-1")),
    (f"web.v1-abc_default_side-car-{ID}.log", ContainerName("side-car", "default/web.v1-abc")),
    (f"orders_flink_taskmanager-{ID}.log.1", None),
    (f"orders_flink_taskmanager-{ID[:12]}.log", None),
    (f"orders_flink-{ID}.log", None),
]


@pytest.mark.parametrize(("file", "name"), FILES)
def test_file_names(tmp_path: Path, file: str, name: ContainerName | None) -> None:
    (tmp_path / file).symlink_to("/nowhere")
    known = ContainerNames(tmp_path)
    assert known.get(ID) is None
    assert known.refresh() and known.get(ID) == name and known.get(OTHER) is None


def test_a_change_is_noticed(tmp_path: Path) -> None:
    known = ContainerNames(tmp_path)
    assert known.refresh() and not known.refresh()
    (tmp_path / f"p_n_c-{ID}.log").touch()
    os.utime(tmp_path, ns=(1, 1))
    assert known.refresh() and known.get(ID) == ContainerName("c", "n/p")
    (tmp_path / f"p_n_c-{ID}.log").unlink()
    os.utime(tmp_path, ns=(2, 2))
    assert known.refresh() and known.get(ID) is None


def test_without_kubernetes(tmp_path: Path) -> None:
    assert not ContainerNames(tmp_path / "none").refresh()


def test_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LIMIT", 1)
    for one in (ID, OTHER):
        (tmp_path / f"p_n_c-{one}.log").touch()
    known = ContainerNames(tmp_path)
    assert known.refresh()
    assert [known.get(one) is None for one in (ID, OTHER)].count(True) == 1
    assert known.dropped == 1
