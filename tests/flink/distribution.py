"""The Flink distribution of the tests: fetched from PyPI once, with the test job compiled against it.

    python -m tests.flink.distribution [VERSION…]     fetch (330 MB each, 210 MB are kept) and compile

The package ``apache-flink-libraries`` carries Flink's jars without scripts. ``FLOWMAP_FLINK`` names another directory
to keep them in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSIONS = ("2.3.0", "1.20.5")
WANTED = ("pyflink/lib/flink-dist-", "pyflink/lib/log4j-", "pyflink/bin/bash-java-utils", "pyflink/licenses/")
SOURCE = Path(__file__).parent / "java" / "FlowJob.java"
CACHE = Path(os.environ.get("FLOWMAP_FLINK") or Path.home() / ".cache" / "flowmap-flink")


def home(version: str) -> Path:
    """Where the distribution is, or would be."""
    return CACHE / f"flink-{version}"


def missing(version: str) -> str:
    """What the tests lack; empty if they can run."""
    if shutil.which("java") is None or shutil.which("javac") is None:
        return "no Java compiler: install openjdk-17-jdk-headless"
    if not (home(version) / "complete").exists():
        return f"no Flink {version}: run `python -m tests.flink.distribution {version}`"
    return ""


def class_path(version: str) -> str:
    """Flink's jars."""
    return ":".join(str(jar) for jar in sorted((home(version) / "lib").glob("*.jar")))


def job_jar(version: str) -> Path:
    """The test job, compiled anew if its source is newer."""
    jar = home(version) / "job.jar"
    if not jar.exists() or jar.stat().st_mtime < SOURCE.stat().st_mtime:
        with tempfile.TemporaryDirectory() as classes:
            options = ["-J-XX:TieredStopAtLevel=1", "--release", "11", "-proc:none", "-nowarn"]
            subprocess.run(["javac", *options, "-cp", class_path(version), "-d", classes, str(SOURCE)], check=True)
            subprocess.run(["jar", "--create", "--file", str(jar), "-C", classes, "."], check=True)
    return jar


def fetch(version: str) -> None:
    """Fetch the distribution, unless it is there."""
    target = home(version)
    if not (target / "complete").exists():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as wheels:
            package = f"apache-flink-libraries=={version}"
            options = ["--quiet", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "-w", wheels]
            subprocess.run([sys.executable, "-m", "pip", "wheel", *options, package], check=True)
            (wheel,) = Path(wheels).glob("apache_flink_libraries-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    if member.filename.startswith(WANTED) and not member.is_dir():
                        place = target / member.filename.removeprefix("pyflink/")
                        place.parent.mkdir(parents=True, exist_ok=True)
                        with archive.open(member) as source, place.open("wb") as sink:
                            shutil.copyfileobj(source, sink)
        (target / "complete").touch()
    job_jar(version)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or VERSIONS:
        fetch(wanted)
