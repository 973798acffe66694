"""A stage for real Flink clusters: a hub that routes, a namespace for each TaskManager, servers that know the truth.

    hub      10.200.0.1 on lo, and .1 of every network behind it; JobManagers and the daemon run here
    tm1 …    10.200.1.2 …
    svc      10.200.9.11 and .12 port 9092 send lines, .21:3306, .22:5432 and .23:6379 take them

The namespaces have no link to the machine's own network, and vanish with the object.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.flink import distribution
from tests.support.netns import Namespace, connect, namespace
from tests.support.waiting import until

HUB = "10.200.0.1"
SOURCES = ("10.200.9.11:9092", "10.200.9.12:9092")
MYSQL, POSTGRES, REDIS = "10.200.9.21:3306", "10.200.9.22:5432", "10.200.9.23:6379"
SINKS = (MYSQL, POSTGRES, REDIS)
SECONDS = 60.0

_OPENED = (
    *("java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio", "java.base/sun.nio.ch"),
    *("java.base/java.lang.reflect", "java.base/java.text", "java.base/java.time", "java.base/java.util"),
    "java.base/java.util.concurrent",
)
_JAVA = (
    *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+IgnoreUnrecognizedVMOptions"),
    *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED),
)
_SETTINGS: Mapping[str, str] = {
    "jobmanager.bind-host": "0.0.0.0",
    "jobmanager.rpc.address": HUB,
    "jobmanager.rpc.port": "6123",
    "jobmanager.memory.process.size": "768m",
    "jobmanager.memory.jvm-overhead.min": "96m",
    "jobmanager.memory.jvm-overhead.max": "96m",
    "blob.server.port": "6124",
    "rest.address": HUB,
    "rest.bind-address": "0.0.0.0",
    "rest.port": "8081",
    "taskmanager.bind-host": "0.0.0.0",
    "taskmanager.memory.process.size": "704m",
    "taskmanager.memory.jvm-metaspace.size": "128m",
    "taskmanager.memory.network.min": "16m",
    "taskmanager.memory.network.max": "16m",
    "taskmanager.memory.managed.size": "0m",
    "taskmanager.memory.jvm-overhead.min": "64m",
    "taskmanager.memory.jvm-overhead.max": "64m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "1000",
    "restart-strategy.fixed-delay.delay": "1 s",
}
_LOG = """rootLogger.level = INFO
rootLogger.appenderRef.c.ref = C
appender.c.name = C
appender.c.type = CONSOLE
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
"""


class Connection(NamedTuple):
    """A connection as the servers saw it."""

    src: str
    dst: str
    job: str | None
    """Name of the job that had it, empty for another program, None where no data told."""
    opened: float
    closed: float | None


class Process:
    """A process in a namespace."""

    def __init__(
        self, name: str, inside: Namespace, command: Sequence[str], log: Path, cgroup: Path | None = None
    ) -> None:
        self.name, self.inside, self.log = name, inside, log
        enter = [] if cgroup is None else ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh"]
        with inside.entered(), log.open("ab") as out:
            self.popen = subprocess.Popen(
                [*enter, "nice", *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> None:
        """SIGTERM, and wait; SIGKILL after 20 s."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(20)
                return
            self.kill()


class Rest:
    """The REST interface of a JobManager, from inside a namespace."""

    def __init__(self, inside: Namespace, url: str, jar: Path | None) -> None:
        self._inside, self._url, self._jar, self._uploaded = inside, url, jar, ""

    def call(self, path: str, *, method: str = "GET", body: bytes | None = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(self._url + path, data=body, method=method, headers={"content-type": kind})
        with self._inside.entered(), urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read() or b"null")

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.call("/overview"))
        return False

    def free_slots(self) -> int:
        with contextlib.suppress(OSError):
            return int(self.call("/overview")["slots-available"])
        return -1

    def submit(self, name: str, source: str, sink: str, *, wait: bool = True, **options: str) -> str:
        """Submit the test job; the id of the job, which runs unless ``wait`` is False."""
        self.upload()
        arguments = {"name": name, "source": source, "sink": sink, **options}
        words = [word for key, value in arguments.items() for word in (f"--{key}", value)]
        body = json.dumps({"entryClass": "FlowJob", "programArgsList": words}).encode()
        job = str(self.call(f"/jars/{self._uploaded}/run", method="POST", body=body)["jobid"])
        if wait:
            until(lambda: self.runs(job), f"job {name} runs", seconds=SECONDS)
        return job

    def upload(self) -> None:
        """Upload the test job, unless that was done."""
        if not self._uploaded:
            assert self._jar is not None
            form = b'--x\r\nContent-Disposition: form-data; name="jarfile"; filename="job.jar"\r\n'
            form += b"Content-Type: application/x-java-archive\r\n\r\n" + self._jar.read_bytes() + b"\r\n--x--\r\n"
            answer = self.call("/jars/upload", method="POST", body=form, kind="multipart/form-data; boundary=x")
            self._uploaded = answer["filename"].rpartition("/")[2]

    def runs(self, job: str) -> bool:
        with contextlib.suppress(OSError):
            answer = self.call(f"/jobs/{job}")
            return answer["state"] == "RUNNING" and all(one["status"] == "RUNNING" for one in answer["vertices"])
        return False

    def cancel(self, job: str) -> None:
        """Cancel a job and wait until its slots are free."""
        self.call(f"/jobs/{job}", method="PATCH")
        until(lambda: self._state(job) in ("CANCELED", "FAILED", "FINISHED"), "the job is cancelled", seconds=SECONDS)

    def _state(self, job: str) -> str:
        listed = {one["jid"]: one["state"] for one in self.call("/jobs/overview")["jobs"]}
        return str(listed.get(job, "CANCELED"))


class Stage:
    """Namespaces, servers and Flink processes; closed with the object."""

    def __init__(self, directory: Path, version: str) -> None:
        self.directory, self.version = directory, version
        self._open = ExitStack()
        self._processes: list[Process] = []
        self.hub = self._open.enter_context(namespace())
        self.hub.track()
        for key in ("net.ipv4.ip_forward", "net.netfilter.nf_conntrack_acct", "net.netfilter.nf_conntrack_timestamp"):
            self.hub.sysctl(key, 1)
        self.hub.sysctl("net.netfilter.nf_conntrack_events", 1)
        self.hub.sysctl("net.ipv6.conf.all.forwarding", 1)
        self.hub.address("lo", f"{HUB}/32", "fd00::1/128")
        self.leaves: dict[str, Namespace] = {}
        self.leaf("svc", 9, 11, 12, 21, 22, 23)
        (directory / "conf").mkdir()
        (directory / "tmp").mkdir()
        (directory / "log4j.properties").write_text(_LOG)
        self._configure({})
        self._state = directory / "servers.json"
        roles = [f"src-{n}={where}" for n, where in enumerate(SOURCES)]
        roles += [f"src-{n + 2}={_six(where)}" for n, where in enumerate(SOURCES)]
        roles += [f"dst-{n}={where}" for n, where in enumerate(SINKS)]
        roles += [f"dst-{n + 3}={_six(where)}" for n, where in enumerate(SINKS)]
        script = str(Path(__file__).parent / "servers.py")
        self.run("servers", self.leaves["svc"], [sys.executable, script, str(self._state), "20", *roles])
        until(self._state.exists, "the servers listen")

    def leaf(self, name: str, network: int, *hosts: int) -> Namespace:
        """A namespace behind the hub, with addresses in 10.200.N.0/24 and fd00:N::/64."""
        made = self.leaves[name] = self._open.enter_context(namespace())
        connect(self.hub, made, name, "eth0")
        self.hub.address(name, f"10.200.{network}.1/24", f"fd00:{network}::1/64")
        made.address("eth0", *(f"10.200.{network}.{n}/24" for n in hosts), *(f"fd00:{network}::{n}/64" for n in hosts))
        made.run("ip", "route", "add", "default", "via", f"10.200.{network}.1")
        made.run("ip", "-6", "route", "add", "default", "via", f"fd00:{network}::1")
        return made

    @property
    def job_jar(self) -> Path:
        return distribution.job_jar(self.version)

    def job_manager(
        self,
        name: str = "jm",
        *,
        entry: str = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
        mode: bool = True,
        words: Sequence[str] = (),
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Process:
        """A JobManager in the hub. ``settings``: Flink's; ``mode``: whether the entry point takes an execution mode."""
        more = [*_words(settings), *(("--executionMode", "cluster") if mode else ()), *words]
        return self._java(name, self.hub, "GET_JM_RESOURCE_PARAMS", entry, more)

    def java(self, name: str, entry: str, words: Sequence[str]) -> Process:
        """Another program of the distribution, in the hub."""
        options = [f"-Dlog4j.configurationFile=file:{self.directory}/log4j.properties"]
        classes = distribution.class_path(self.version)
        return self.run(name, self.hub, [*_JAVA, "-Xmx128m", *options, "-cp", classes, entry, *words])

    def task_manager(
        self,
        name: str,
        address: str,
        slots: int,
        *,
        inside: str = "",
        settings: Mapping[str, str] = MappingProxyType({}),
        cgroup: Path | None = None,
    ) -> Process:
        """A TaskManager in its leaf, or in the one that ``inside`` names, and in a cgroup."""
        keys = {"taskmanager.host": address, "taskmanager.numberOfTaskSlots": str(slots), **settings}
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        leaf = self.leaves[inside or name]
        return self._java(name, leaf, "GET_TM_RESOURCE_PARAMS", entry, _words(keys), cgroup=cgroup)

    def rest(self, port: int = 8081) -> Rest:
        """The REST interface on the hub."""
        return Rest(self.hub, f"http://127.0.0.1:{port}", distribution.job_jar(self.version))

    def run(self, name: str, inside: Namespace, command: Sequence[str], cgroup: Path | None = None) -> Process:
        """A process that ends with the stage."""
        made = Process(name, inside, command, self.directory / f"{name}.log", cgroup)
        self._processes.append(made)
        return made

    def stop_all_but(self, *names: str) -> None:
        """Stop the other processes."""
        for process in [process for process in self._processes if process.name not in names]:
            process.stop()
            self._processes.remove(process)

    def stranger(self, leaf: str, sink: str = MYSQL) -> socket.socket:
        """A connection of another program, from a leaf; its line says so."""
        host, _, port = sink.rpartition(":")
        with self.leaves[leaf].entered():
            made = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
        made.sendall(b"job=|src=stranger|\n")
        return made

    def truth(self) -> list[Connection]:
        """Every connection that the servers ever accepted."""
        seen = json.loads(self._state.read_text())
        reads = {source: job for one in seen for job, sources in one["jobs"].items() for source in sources}
        found = []
        for one in seen:
            job = next(iter(one["jobs"]), None) if one["server"].startswith("dst-") else reads.get(one["src"])
            found.append(Connection(one["src"], one["dst"], job, one["opened"], one["closed"]))
        return found

    def close(self) -> None:
        for process in reversed(self._processes):
            process.stop()
        self._open.close()

    def _configure(self, settings: Mapping[str, str]) -> None:
        lines = {**_SETTINGS, "io.tmp.dirs": str(self.directory / "tmp"), "web.tmpdir": str(self.directory / "tmp")}
        text = "".join(f"{key}: {value}\n" for key, value in {**lines, **settings}.items())
        (self.directory / "conf" / "config.yaml").write_text(text)
        if self.version.startswith("1."):
            (self.directory / "conf" / "flink-conf.yaml").write_text(text)
            (self.directory / "conf" / "config.yaml").unlink()

    def _java(
        self, name: str, inside: Namespace, asked: str, entry: str, more: Sequence[str], *, cgroup: Path | None = None
    ) -> Process:
        flags, settings = _resources(self.version, asked, str(self.directory / "conf"))
        hosts = self.directory / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {os.uname().nodename}\n")
        command = [
            *_JAVA,
            *(flag for flag in flags if not flag.startswith("-Xms")),
            f"-Djdk.net.hosts.file={hosts}",
            f"-Dlog4j.configurationFile=file:{self.directory}/log4j.properties",
            *("-cp", distribution.class_path(self.version), entry, "--configDir", str(self.directory / "conf")),
            *settings,
            *more,
        ]
        return self.run(name, inside, command, cgroup)


@cache
def _resources(version: str, asked: str, conf: str) -> tuple[list[str], list[str]]:
    """What Flink's own start scripts ask it: flags of the JVM, and settings."""
    home = distribution.home(version)
    jars = ":".join(str(jar) for pattern in ("bin/*.jar", "lib/flink-dist-*.jar") for jar in home.glob(pattern))
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", jars, "org.apache.flink.runtime.util.bash.BashJavaUtils"]
    done = subprocess.run([*command, asked, "--configDir", conf], capture_output=True, text=True, check=True)
    mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
    flags, settings = (line.removeprefix(mark).split() for line in done.stdout.splitlines() if line.startswith(mark))
    pairs = zip(settings[::2], settings[1::2], strict=True)
    return flags, [word for pair in pairs if "numberOfTaskSlots" not in pair[1] for word in pair]


def _words(settings: Mapping[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in ("-D", f"{key}={value}")]


def _six(where: str) -> str:
    """The IPv6 endpoint beside an IPv4 one: 10.200.9.11:9092 and [fd00:9::11]:9092."""
    host, _, port = where.rpartition(":")
    _, _, network, number = host.split(".")
    return f"[fd00:{network}::{number}]:{port}"


@contextlib.contextmanager
def stage(directory: Path, version: str) -> Iterator[Stage]:
    made = Stage(directory, version)
    try:
        yield made
    finally:
        made.close()


def wait_for_slots(rest: Rest, count: int) -> None:
    until(lambda: rest.free_slots() >= count, f"{count} slots are free", seconds=SECONDS)


def now() -> float:
    return time.time()
