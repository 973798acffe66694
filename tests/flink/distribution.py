"""The Flink distribution of the tests: fetched from PyPI once, with the test job compiled against it.

    python -m tests.flink.distribution [VERSION…]     fetch (330 MB each, 210 MB are kept) and compile

The package ``apache-flink-libraries`` carries Flink's jars without scripts. ``FLINK_DISTRIBUTION`` names another
directory to keep them in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

VERSIONS = ("2.3.0", "1.20.5")
WANTED = ("lib/flink-dist-", "lib/log4j-", "bin/bash-java-utils", "licenses/")
SOURCE = Path(__file__).parent / "java" / "FlowJob.java"
CACHE = Path(os.environ.get("FLINK_DISTRIBUTION") or Path.home() / ".cache" / "flowmap-flink")


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
        with tempfile.TemporaryDirectory(dir=CACHE) as packages:
            options = ["--quiet", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "-d", packages]
            command = [sys.executable, "-m", "pip", "download", *options, f"apache-flink-libraries=={version}"]
            subprocess.run(command, check=True)
            (package,) = Path(packages).iterdir()
            for name, file in _files(package):
                if name.startswith(WANTED):
                    place = target / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with file, place.open("wb") as sink:
                        shutil.copyfileobj(file, sink)
        (target / "complete").touch()
    job_jar(version)


def _files(package: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of the distribution in a wheel, or in a source package as 1.20 has it."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            for name in archive.namelist():
                if name.startswith("pyflink/") and not name.endswith("/"):
                    yield name.removeprefix("pyflink/"), archive.open(name)
        return
    with tarfile.open(package) as archive:
        for member in archive:
            _, found, name = member.name.partition("/deps/")
            if found and member.isfile() and (file := archive.extractfile(member)) is not None:
                yield name, file


if __name__ == "__main__":
    for wanted in sys.argv[1:] or VERSIONS:
        fetch(wanted)
