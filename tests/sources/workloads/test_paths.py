"""Paths of cgroups as kubelet, container runtimes and systemd lay them out."""

from __future__ import annotations

import pytest

from flowmap.sources.workloads.paths import Names, names_of

ID, OTHER = "0123456789abcdef" * 4, "f" * 64
UID = "1d5d8c6e-0b5a-4f6a-9d43-5b2a3a1c7e90"
UNDER = UID.replace("-", "_")
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDER}.slice"

PATHS = [
    # Kubernetes with the systemd driver
    (f"{BURSTABLE}/cri-containerd-{ID}.scope", Names(ID, UID, f"cri-containerd-{ID}.scope", "containerd")),
    (f"{BURSTABLE}/crio-{ID}.scope", Names(ID, UID, f"crio-{ID}.scope", "cri-o")),
    (f"{BURSTABLE}/crio-{ID}.scope/container", Names(ID, UID, f"crio-{ID}.scope", "cri-o")),
    (f"{BURSTABLE}/docker-{ID}.scope", Names(ID, UID, f"docker-{ID}.scope", "docker")),
    (
        f"/kubepods.slice/kubepods-pod{UNDER}.slice/cri-containerd-{ID}.scope",
        Names(ID, UID, f"cri-containerd-{ID}.scope", "containerd"),
    ),
    (
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{UNDER}.slice"
        f"/cri-containerd-{ID}.scope",
        Names(ID, UID, f"cri-containerd-{ID}.scope", "containerd"),
    ),
    (
        f"/node.slice/node-kubepods.slice/node-kubepods-burstable.slice/node-kubepods-burstable-pod{UNDER}.slice"
        f"/cri-containerd-{ID}.scope",
        Names(ID, UID, f"cri-containerd-{ID}.scope", "containerd"),
    ),
    # kubelet with the systemd driver, containerd without
    (
        f"/system.slice/containerd.service/kubepods-burstable-pod{UNDER}.slice:cri-containerd:{ID}",
        Names(ID, UID, "containerd.service", "containerd"),
    ),
    (f"/system.slice:docker:{ID}", Names(ID, runtime="docker")),
    (BURSTABLE, Names(pod=UID)),
    (f"{BURSTABLE}/crio-conmon-{ID}.scope", Names(pod=UID, unit=f"crio-conmon-{ID}.scope")),
    # with the cgroupfs driver
    (f"/kubepods/burstable/pod{UID}/{ID}", Names(ID, UID)),
    (f"/kubepods/pod{UID}/crio-{ID}", Names(ID, UID, None, "cri-o")),
    (f"/kubepods/besteffort/pod{UID}/{ID}/inner", Names(ID, UID)),
    # static pods have 32 digits without hyphens
    (f"/kubepods/burstable/pod{OTHER[:32]}/{ID}", Names(ID, OTHER[:32])),
    # containerd and nerdctl, Docker, podman, runc
    (f"/default/{ID}", Names(ID, runtime="containerd")),
    (f"/k8s.io/{ID}", Names(ID, runtime="containerd")),
    (f"/system.slice/nerdctl-{ID}.scope", Names(ID, None, f"nerdctl-{ID}.scope", "containerd")),
    (f"/system.slice/docker-{ID}.scope", Names(ID, None, f"docker-{ID}.scope", "docker")),
    (f"/docker/{ID}", Names(ID, runtime="docker")),
    (f"/machine.slice/libpod-{ID}.scope", Names(ID, None, f"libpod-{ID}.scope", "podman")),
    (f"/machine.slice/libpod-{ID}.scope/container", Names(ID, None, f"libpod-{ID}.scope", "podman")),
    (f"/machine.slice/libpod-conmon-{ID}.scope", Names(unit=f"libpod-conmon-{ID}.scope")),
    (f"/libpod_parent/libpod-{ID}", Names(ID, runtime="podman")),
    (f"/system.slice/db.service/libpod-payload-{ID}", Names(ID, None, "db.service", "podman")),
    (
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        Names(ID, None, f"libpod-{ID}.scope", "podman"),
    ),
    # with a parent of the user's choice
    (f"/batch/{ID}", Names(ID)),
    (f"/batch.slice/docker-{ID}.scope", Names(ID, None, f"docker-{ID}.scope", "docker")),
    (f"/ecs/0123456789abcdef/{ID}", Names(ID)),
    # LXC and systemd-nspawn: the units inside are the container's
    ("/lxc.payload.web/system.slice/kafka.service", Names("web", runtime="lxc")),
    (
        "/machine.slice/systemd-nspawn@web.service/payload/system.slice/kafka.service",
        Names("web", None, "systemd-nspawn@web.service", "systemd-nspawn"),
    ),
    ("/system.slice/runc-orders-tm.scope", Names("orders-tm", None, "runc-orders-tm.scope", "runc")),
    # a container in a container: the outer one is known to the host, the inner one only to the outer
    (f"/docker/{ID}/kubelet/kubepods/pod{UID}/{OTHER}", Names(ID, runtime="docker")),
    (f"/system.slice/docker-{ID}.scope/docker-{OTHER}.scope", Names(ID, None, f"docker-{ID}.scope", "docker")),
    # systemd
    ("/system.slice/kafka.service", Names(unit="kafka.service")),
    ("/system.slice/system-getty.slice/getty@tty1.service", Names(unit="getty@tty1.service")),
    ("/user.slice/user-0.slice/session-3.scope", Names(unit="session-3.scope")),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/flink.service",
        Names(unit="flink.service"),
    ),
    ("/system.slice", Names()),
    ("/", Names()),
    # what looks like one but is none
    (f"/system.slice/{ID[:12]}", Names()),
    (f"/kubepods-pod{UNDER}.slice:cri-containerd:{ID[:12]}", Names()),
    (f"/mine/cri-containerd-{ID[:12]}.scope", Names(unit=f"cri-containerd-{ID[:12]}.scope")),
    (f"/docker/{ID.upper()}", Names()),
    (f"/kubepodsx/pod{UID}/{ID}", Names(ID)),
    # a user lays out directories below its own service as it likes: they prove no pod
    (f"/user.slice/user@1000.service/kubepods/pod{UID}/x", Names(unit="user@1000.service")),
]


@pytest.mark.parametrize(("path", "names"), PATHS)
def test_names(path: str, names: Names) -> None:
    assert names_of(path) == names


def test_a_socket_that_systemd_opened_is_not_its_own() -> None:
    found = names_of("/init.scope")
    assert found.unit is None and "activates" in found.unknown


@pytest.mark.parametrize("service", ["docker.service", "containerd.service", "crio.service"])
def test_a_runtime_may_have_the_sockets_of_containers_in_cgroup_v1(service: str) -> None:
    assert names_of(f"/system.slice/{service}") == Names(unit=service)
    found = names_of(f"/system.slice/{service}", hybrid=True)
    assert found.unit is None and "cgroup v1" in found.unknown
    assert names_of("/system.slice/kafka.service", hybrid=True).unit == "kafka.service"
