"""Network namespaces for tests: made, entered by the calling thread, and gone with the object."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CLONE_NEWNET = 0x4000_0000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _open_own() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(descriptor: int) -> None:
    """Move the calling thread into the network namespace of ``descriptor``, for good."""
    _check(_libc.setns(descriptor, _CLONE_NEWNET))


class Namespace:
    """A network namespace of its own with ``lo`` up; the kernel removes it, and all in it, after ``close``.

    A descriptor holds it, so nothing appears under /run/netns and nothing is left behind by a killed test.
    """

    def __init__(self) -> None:
        home = _open_own()
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            self._fd = _open_own()
            enter(home)
        finally:
            os.close(home)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """A path other processes can open."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def close(self) -> None:
        os.close(self._fd)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run the body with the calling thread (and the threads and processes it starts) in this namespace."""
        home = _open_own()
        try:
            enter(self._fd)
            yield
        finally:
            enter(home)
            os.close(home)

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Output of ``command`` run in here; a failure raises with its words."""
        with self.entered():
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def sysctl(self, name: str, value: int | None = None) -> int:
        """Read, or set and read, ``name`` (slashes or dots) as this namespace has it."""
        path = "/proc/sys/" + name.replace(".", "/")
        with self.entered():
            if value is not None:
                with open(path, "w") as file:
                    file.write(str(value))
            with open(path) as file:
                return int(file.read())

    def nft(self, rules: str) -> None:
        """Load ``rules`` into this namespace's nftables."""
        self.run("nft", "-f", "-", stdin=rules)

    def track(self) -> None:
        """Add the ct rule without which the kernel does not fill this namespace's conntrack table."""
        self.nft(
            "table inet track {\n"
            "  chain in { type filter hook prerouting priority 0; ct state new,established accept; }\n"
            "  chain out { type filter hook output priority 0; ct state new,established accept; }\n"
            "}\n"
        )

    def address(self, device: str, *addresses: str) -> None:
        """Give ``device`` these addresses (with prefix length), at once usable, and bring it up."""
        for address in addresses:
            extra = ("nodad",) if ":" in address else ()
            self.run("ip", "address", "add", address, "dev", device, *extra)
        self.run("ip", "link", "set", device, "up")


@contextmanager
def namespace() -> Iterator[Namespace]:
    """One namespace, closed at the end."""
    made = Namespace()
    try:
        yield made
    finally:
        made.close()


def connect(left: Namespace, right: Namespace, left_device: str, right_device: str) -> None:
    """A veth pair with one end in each; give both addresses with :meth:`Namespace.address`."""
    left.run("ip", "link", "add", left_device, "type", "veth", "peer", "name", right_device, "netns", right.path)
