"""The Kubernetes manifest and the Dockerfile: what they say fits together, and flowmap takes what they configure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowmap.config import load
from flowmap.errors import ConfigError
from flowmap.sources.workloads import names
from flowmap.system.privileges import OPENER
from tests.dockerfile import commands, steps
from tests.support.manifests import DIRECTORY, merged, objects, patch_of

MANIFEST = DIRECTORY / "flowmap.yaml"
OBJECTS = objects("flowmap.yaml", "secrets.yaml")

POD = OBJECTS["DaemonSet/flowmap"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
HASH = "$2y$10$" + "a" * 53


def environment(container: Any = CONTAINER) -> dict[str, str]:
    """The container's, with Kubernetes' part done: references looked up, and $(NAME) put in."""
    known = {"status.hostIP": "10.1.2.3", "id": "LTAI-example", "hash": HASH}
    made: dict[str, str] = {}
    for variable in container["env"]:
        source = variable.get("valueFrom", {})
        value = (
            variable.get("value") or known[source.get("fieldRef", {}).get("fieldPath") or source["secretKeyRef"]["key"]]
        )
        made[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: made[match[1]], value)
    return {name: value for name, value in made.items() if name.startswith("FLOWMAP__")}


def test_flowmap_takes_the_configuration(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    text = OBJECTS["ConfigMap/flowmap"]["data"]["flowmap.yaml"]
    file = tmp_path / "flowmap.yaml"
    file.write_text(text.replace("/etc/flowmap/access-key/secret", str(secret)))
    config = load(str(file), environment())
    assert (str(config.http.listen), list(config.http.users or {})) == ("10.1.2.3:10817", ["prometheus"])
    assert config.control_plane.credentials.access_key_id == "LTAI-example"


def test_placeholders_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text(OBJECTS["ConfigMap/flowmap"]["data"]["flowmap.yaml"])
    users = environment() | {"FLOWMAP__HTTP__USERS": '{"prometheus": "REPLACE-ME"}'}
    with pytest.raises(ConfigError, match="not a bcrypt hash"):
        load(str(file), users)


def test_applying_it_again_leaves_the_secrets_alone() -> None:
    kinds = {document["kind"] for document in yaml.safe_load_all(MANIFEST.read_text())}
    assert "Secret" not in kinds and "DaemonSet" in kinds


def test_it_has_no_power_but_the_one_it_needs() -> None:
    assert CONTAINER["securityContext"] == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    }
    spec = POD["spec"]
    assert spec["hostNetwork"] and not spec.get("hostPID") and not spec["automountServiceAccountToken"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(mount["readOnly"] for mount in CONTAINER["volumeMounts"])
    assert "hostPath" not in str(spec["volumes"])


def test_the_patch_for_local_adds_what_is_read_and_no_power(tmp_path: Path) -> None:
    pod = merged(OBJECTS["DaemonSet/flowmap"], patch_of("local.yaml"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == CONTAINER["securityContext"] and container["image"] == CONTAINER["image"]
    assert pod["hostPID"] and pod["hostNetwork"] and pod["securityContext"] == POD["spec"]["securityContext"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys() and all(mount["readOnly"] for mount in mounts.values())
    host = {name: volume["hostPath"]["path"] for name, volume in volumes.items() if "hostPath" in volume}
    assert host == {"cgroups": "/sys/fs/cgroup", "container-names": "/var/log/containers"}
    # A container has a part of the tree at /sys/fs/cgroup, where some runtimes allow no other mount.
    assert mounts["cgroups"]["mountPath"] != "/sys/fs/cgroup"
    assert mounts["container-names"]["mountPath"] == str(names.DIRECTORY)
    file = tmp_path / "flowmap.yaml"
    file.write_text("control_plane: {region: cn-hangzhou, workspace: a}\ncollect: {source: conntrack}\n")
    environ = {name: value for name, value in environment(container).items() if "COLLECT" in name}
    assert load(str(file), environ).collect.source == "auto"


def test_both_patches_fit_together() -> None:
    for first, second in (("local.yaml", "namespaces.yaml"), ("namespaces.yaml", "local.yaml")):
        patched = merged(merged(OBJECTS["DaemonSet/flowmap"], patch_of(first)), patch_of(second))
        pod = patched["spec"]["template"]["spec"]
        volumes = [volume["name"] for volume in pod["volumes"]]
        assert len(volumes) == len(set(volumes)) == 6
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths))
        assert {"name": "FLOWMAP__COLLECT__SOURCE", "value": "auto"} in pod["containers"][0]["env"]


def test_the_patch_for_namespaces_gives_the_opener_its_power_and_flowmap_none(tmp_path: Path) -> None:
    pod = merged(OBJECTS["DaemonSet/flowmap"], patch_of("namespaces.yaml"))["spec"]["template"]["spec"]
    flowmap, opener = pod["containers"]
    assert flowmap["securityContext"] == CONTAINER["securityContext"]
    assert (opener["image"], opener["name"], opener["args"][0]) == (flowmap["image"], "opener", "opener")
    assert opener["securityContext"]["readOnlyRootFilesystem"]
    granted = opener["securityContext"]["capabilities"]
    assert granted["drop"] == ["ALL"]
    assert set(granted["add"]) == {capability.name for capability in OPENER}
    mounts = [{mount["name"]: mount for mount in one["volumeMounts"]} for one in (flowmap, opener)]
    assert [one["opener"].get("readOnly", False) for one in mounts] == [True, False]
    socket = Path(mounts[1]["opener"]["mountPath"]) / "opener.sock"
    assert opener["args"][1:] == ["--socket", str(socket)]
    assert set(mounts[0]) | set(mounts[1]) == {volume["name"] for volume in pod["volumes"]}
    file = tmp_path / "flowmap.yaml"
    file.write_text("control_plane: {region: cn-hangzhou, workspace: a}\ncollect: {source: conntrack}\n")
    environ = {name: value for name, value in environment(flowmap).items() if "COLLECT" in name}
    collect = load(str(file), environ).collect
    assert (collect.source, collect.namespaces, collect.opener) == ("auto", "all", str(socket))


def test_names_lead_to_what_is_there() -> None:
    for volume in POD["spec"]["volumes"]:
        assert f"ConfigMap/{volume['configMap']['name']}" in OBJECTS if "configMap" in volume else True
        assert f"Secret/{volume['secret']['secretName']}" in OBJECTS if "secret" in volume else True
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {
        volume["name"] for volume in POD["spec"]["volumes"]
    }
    references = re.findall(r"\{name: ([\w-]+), key: (\w+)\}", MANIFEST.read_text())
    assert len(references) == 4
    for name, key in references:
        assert key in OBJECTS[f"Secret/{name}"]["stringData"]
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    probes = [CONTAINER[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")]
    monitor = OBJECTS["PodMonitor/flowmap"]["spec"]
    assert POD["metadata"]["labels"][monitor["jobLabel"]] == "flowmap", "the name that the alerts look for"
    assert {*probes, monitor["podMetricsEndpoints"][0]["port"]} == set(ports)
    assert monitor["selector"]["matchLabels"].items() <= POD["metadata"]["labels"].items()


def test_the_image_runs_without_root_and_starts_what_it_should() -> None:
    words = {step.word: step.rest for step in steps()[-1]}
    assert words["USER"].split(":")[0] not in ("0", "root")
    assert words["STOPSIGNAL"] == "SIGTERM"
    assert dict(commands()) == {
        "ENTRYPOINT": ["flowmap"],
        "CMD": ["run", "-c", "/etc/flowmap/flowmap.yaml"],
        "HEALTHCHECK": ["flowmap", "health", "-c", "/etc/flowmap/flowmap.yaml"],
    }
    mount = next(mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "config")
    assert CONTAINER["args"] == ["run", "-c", f"{mount['mountPath']}/flowmap.yaml"]
