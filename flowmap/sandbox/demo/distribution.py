"""A Flink distribution on this machine: its class path, the commands of its processes, and the compiled sample job."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

from flowmap.errors import FlowmapError

SOURCE = Path(__file__).parent / "FlinkDemoJob.java"
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"

COMPILE_TIMEOUT = 120.0
"""Seconds for the Java compiler."""

# Flink's own scripts open these packages of the JDK to it.
_OPENED = ("lang", "lang.reflect", "net", "io", "nio", "text", "time", "util", "util.concurrent")
_LOG = """rootLogger.level = INFO
rootLogger.appenderRef.c.ref = C
appender.c.name = C
appender.c.type = CONSOLE
appender.c.target = SYSTEM_ERR
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
"""
_MEMORY = {
    "taskmanager.cpu.cores": "1",
    "taskmanager.memory.framework.heap.size": "64m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "taskmanager.memory.jvm-metaspace.size": "128m",
    "taskmanager.memory.jvm-overhead.min": "64m",
    "taskmanager.memory.jvm-overhead.max": "64m",
    "taskmanager.memory.task.heap.size": "96m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.network.min": "16m",
    "taskmanager.memory.network.max": "16m",
    "taskmanager.memory.managed.size": "0m",
}
"""With these a TaskManager starts without the scripts that compute them."""


class Distribution:
    """An unpacked distribution of Apache Flink."""

    def __init__(self, home: Path, directory: Path) -> None:
        """``directory``: for files of this demo. FlowmapError without a distribution in ``home``, or without a JDK."""
        jars = sorted((home / "lib").glob("*.jar"))
        if not any(jar.name.startswith("flink-dist") for jar in jars):
            raise FlowmapError(f"--flink {home}: no lib/flink-dist-*.jar; give the directory of an unpacked Flink")
        if missing := [tool for tool in ("java", "javac") if shutil.which(tool) is None]:
            raise FlowmapError(f"--flink needs {' and '.join(missing)}: install a JDK 17 (openjdk-17-jdk-headless)")
        self._class_path = ":".join(map(str, jars))
        self._directory = directory
        (directory / "conf").mkdir()
        (directory / "conf" / "config.yaml").touch()  # Flink 2
        (directory / "conf" / "flink-conf.yaml").touch()
        (directory / "log4j.properties").write_text(_LOG)

    def compile_job(self) -> bytes:
        """The sample job as a jar; FlowmapError if it cannot be compiled."""
        classes = self._directory / "classes"
        command = ["javac", "-J-XX:TieredStopAtLevel=1", "--release", "11", "-proc:none", "-nowarn"]
        command += ["-cp", self._class_path, "-d", str(classes), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT, check=False)
        if done.returncode:
            raise FlowmapError(f"the sample job cannot be compiled: {(done.stderr or done.stdout).splitlines()[:1]}")
        jar = self._directory / "flowmap-demo.jar"
        with zipfile.ZipFile(jar, "w") as archive:
            for file in sorted(classes.iterdir()):
                archive.write(file, file.name)
        return jar.read_bytes()

    def job_manager(self, settings: Mapping[str, str]) -> list[str]:
        """The command line of a JobManager."""
        return [*self._java("-Xmx256m", JOB_MANAGER), *self._words(settings), "--executionMode", "cluster"]

    def task_manager(self, settings: Mapping[str, str]) -> list[str]:
        """The command line of a TaskManager."""
        return [*self._java("-Xmx256m", TASK_MANAGER), *self._words(_MEMORY | dict(settings))]

    def _java(self, heap: str, entry: str) -> list[str]:
        opened = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED]
        options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+IgnoreUnrecognizedVMOptions", heap, *opened]
        log = f"-Dlog4j.configurationFile=file:{self._directory}/log4j.properties"
        return ["java", *options, log, "-cp", self._class_path, entry, "--configDir", f"{self._directory}/conf"]

    def _words(self, settings: Mapping[str, str]) -> list[str]:
        more = {"io.tmp.dirs": str(self._directory), "web.tmpdir": str(self._directory)}
        return [word for key, value in {**settings, **more}.items() for word in ("-D", f"{key}={value}")]
