"""The page as a file: whole, readable, without what would collide, and never half."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowmap.daemon.textfile import TextFile, own_families
from flowmap.errors import ConfigError, SourceError
from tests.support.sandbox import running_sandbox

PAGE = b"""# HELP flowmap_series Traffic series on the page; # TYPE process_x is no line of its own.
# TYPE flowmap_series gauge
flowmap_series{a="\\n# HELP process_y"} 4
# HELP process_cpu_seconds_total Seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
# HELP python_info Python.
python_info{version="3"} 1
# TYPE flowmap_up gauge
flowmap_up 1
"""


def test_only_own_families_stay() -> None:
    lines = PAGE.splitlines(keepends=True)
    assert list(own_families(PAGE)) == [*lines[:3], *lines[8:]]


def test_file_is_complete_and_readable(tmp_path: Path) -> None:
    file = tmp_path / "flowmap.prom"
    file.write_text("old")
    TextFile(file, lambda: PAGE).write()
    assert file.read_bytes() == b"".join(own_families(PAGE))
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.prom"):
        TextFile(tmp_path / "flowmap.txt", lambda: PAGE)


def test_failed_write_keeps_the_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="missing/flowmap.prom: No such file"):
        TextFile(tmp_path / "missing" / "flowmap.prom", lambda: PAGE).write()


def test_full_disk_keeps_the_file(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from flowmap.daemon.textfile import TextFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
TextFile(Path(sys.argv[1]), lambda: b"flowmap_x 1\\n" * 1000).write()
"""
    file = tmp_path / "flowmap.prom"
    file.write_text("old")
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_run_with_a_time_limit(tmp_path: Path) -> None:
    file, settings = tmp_path / "flowmap.prom", tmp_path / "flowmap.yaml"
    with running_sandbox() as sandbox:
        control_plane = {
            "endpoint": sandbox.url,
            "workspace": "w",
            "credentials": {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"},
        }
        config = {
            "control_plane": control_plane,
            "collect": {"source": "sockets"},
            "http": {"listen": "127.0.0.1:0"},
        }
        settings.write_text(json.dumps(config))
        command = [
            sys.executable,
            "-m",
            "flowmap",
            "run",
            "-c",
            str(settings),
            "--duration",
            "1s",
            "--textfile",
            str(file),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    families = {family.name for family in text_string_to_metric_families(file.read_text())}
    assert "flowmap_observed_transmit_bytes" in families
    assert not [name for name in families if not name.startswith("flowmap_")]
