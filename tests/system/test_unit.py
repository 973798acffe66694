"""The unit file: what systemd itself thinks of it, and that it grants what the code keeps, no more."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flowmap.config import Config
from flowmap.sources.conntrack.check import SYSCTLS
from flowmap.sources.kinds import kept_capabilities
from flowmap.system.privileges import OPENER

UNITS = Path(__file__).parent.parent.parent / "systemd"
DROP_INS = {"conntrack": None, "sockets": "sockets-only", "capture": "capture"}
"""Which file goes with which source."""
EXPOSURE = 2.0
OPENER_EXPOSURE = 2.3

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture(params=DROP_INS)
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The unit with the drop-in for a source, as it would be in /etc, with a program that exists."""
    text = (UNITS / "flowmap.service").read_text()
    unit = tmp_path / "flowmap.service"
    unit.write_text(text.replace("/opt/flowmap/bin/flowmap", shutil.which("true") or "/bin/true"))
    if (name := DROP_INS[request.param]) is not None:
        (tmp_path / "flowmap.service.d").mkdir()
        shutil.copy(UNITS / "drop-ins" / f"{name}.conf", tmp_path / "flowmap.service.d")
    return request.param, unit


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True)


def test_systemd_analyze_verify(installed: tuple[str, Path]) -> None:
    done = analyze("verify", "--man=no", str(installed[1]))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_exposure_level(installed: tuple[str, Path]) -> None:
    done = analyze("security", "--offline=true", f"--threshold={int(10 * EXPOSURE)}", str(installed[1]))
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Overall exposure level for flowmap.service: ([0-9.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE


def test_capabilities_match_the_code(installed: tuple[str, Path]) -> None:
    source, unit = installed
    text = "".join(file.read_text() for file in (unit, *sorted(unit.parent.glob("flowmap.service.d/*"))))
    for setting in ("AmbientCapabilities", "CapabilityBoundingSet"):
        granted: set[str] = set()
        for value in re.findall(rf"^{setting}=(.*)$", text, re.MULTILINE):
            granted = granted | set(value.split()) if value else set()  # an empty value takes back what was before
        assert granted == {f"CAP_{capability.name}" for capability in kept_capabilities(source)}


def test_proc_stays_visible(installed: tuple[str, Path]) -> None:
    files = (installed[1], *installed[1].parent.glob("flowmap.service.d/*"))
    assert not [file for file in files if re.search(r"^ProcSubset=pid", file.read_text(), re.MULTILINE)]


def test_capset_is_permitted() -> None:
    assert re.search(r"^SystemCallFilter=capset$", (UNITS / "flowmap.service").read_text(), re.MULTILINE)


def test_sysctls_match_the_check() -> None:
    lines = [line for line in (UNITS / "flowmap.conf").read_text().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split(" = ") for line in lines)
    place = ".".join(SYSCTLS.parts[3:])
    assert settings == {f"{place}.nf_conntrack_acct": "1", f"{place}.nf_conntrack_events": "1"}


@pytest.fixture
def opener(tmp_path: Path) -> Path:
    """The unit of the opener, with a program that exists."""
    text = (UNITS / "flowmap-opener.service").read_text()
    unit = tmp_path / "flowmap-opener.service"
    unit.write_text(text.replace("/opt/flowmap/bin/flowmap", shutil.which("true") or "/bin/true"))
    return unit


def test_the_opener_passes_verification_and_is_not_exposed(opener: Path) -> None:
    done = analyze("verify", "--man=no", str(opener))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = analyze("security", "--offline=true", f"--threshold={int(10 * OPENER_EXPOSURE)}", str(opener))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_opener_has_the_capabilities_that_its_code_keeps(opener: Path) -> None:
    text = opener.read_text()
    for setting in ("AmbientCapabilities", "CapabilityBoundingSet"):
        (value,) = re.findall(rf"^{setting}=(.*)$", text, re.MULTILINE)
        assert set(value.split()) == {f"CAP_{capability.name}" for capability in OPENER}


def test_both_units_use_one_socket_and_one_user() -> None:
    text = (UNITS / "flowmap-opener.service").read_text()
    (arguments,) = re.findall(r"^ExecStart=\S+ opener (.*)$", text, re.MULTILINE)
    assert arguments.split() == ["--socket", Config().collect.opener, "--allow", "flowmap"]
    assert re.search(r"^RuntimeDirectory=flowmap$", text, re.MULTILINE)
    # The user of a unit with DynamicUser has the name of the unit.
    assert re.search(r"^DynamicUser=yes$", (UNITS / "flowmap.service").read_text(), re.MULTILINE)
    assert not re.search(r"^User=", (UNITS / "flowmap.service").read_text(), re.MULTILINE)
