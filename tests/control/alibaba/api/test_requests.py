"""Parameters checked before any call, and requests as they go out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.alibaba.api import requests as ops
from flowmap.errors import BadRequest

BASE = "/api/v2/namespaces/n"

TARGETS: list[tuple[ops.Request, str]] = [
    (
        ops.GET_DEPLOYMENTS_BY_IP.request(
            namespace="n",
            src_ip="192.168.1.100",
            src_port=54321,
            dst_ip="FE80::1",
            dst_port=9092,
            ignore_job_summary=True,
            ignore_resource_setting=False,
        ),
        BASE + "/deployments/getDeployments/byIp?dstIp=fe80%3A%3A1&dstPort=9092&ignoreJobSummary=true"
        "&ignoreResourceSetting=false&srcIp=192.168.1.100&srcPort=54321",
    ),
    (
        ops.GET_DEPLOYMENTS_BY_IP.request(namespace="a/b ü", dst_ip="::ffff:10.0.0.1"),
        "/api/v2/namespaces/a%2Fb%20%C3%BC/deployments/getDeployments/byIp?dstIp=10.0.0.1",
    ),
    (
        ops.GET_DEPLOYMENTS_BY_LABEL.request(namespace="n", key="k", values=["a b", "c+d~"]),
        BASE + "/deployments/getDeployments/byLabel?labelKey=k&labelValue=a%20b%2Cc%2Bd~",
    ),
    (
        ops.LIST_DEPLOYMENTS.request(
            namespace="n",
            page_index=1,
            page_size=100,
            label_key="k",
            label_values=["a", "b,c"],
            status="RUNNING",
            sort_name="x",
        ),
        BASE + "/deployments?labelKey=k&labelValueArray=a%3Bb%2Cc&pageIndex=1&pageSize=100&sortName=x&status=RUNNING",
    ),
    (
        ops.LIST_JOBS.request(namespace="n", deployment_id="d", page_index=2, page_size=10),
        BASE + "/jobs?deploymentId=d&pageIndex=2&pageSize=10",
    ),
]


@pytest.mark.parametrize(("request_", "target"), TARGETS, ids=[row[0].action for row in TARGETS])
def test_targets(request_: ops.Request, target: str) -> None:
    assert request_.target == target


def by_ip(**fields: Any) -> Callable[[], ops.Request]:
    return lambda: ops.GET_DEPLOYMENTS_BY_IP.request(**{"namespace": "n", "dst_ip": "10.0.0.1", **fields})


def by_label(*values: Any, key: Any = "k") -> Callable[[], ops.Request]:
    return lambda: ops.GET_DEPLOYMENTS_BY_LABEL.request(namespace="n", key=key, values=list(values))


def listed(**fields: Any) -> Callable[[], ops.Request]:
    return lambda: ops.LIST_DEPLOYMENTS.request(**{"namespace": "n", "page_index": 1, "page_size": 10, **fields})


def jobs(**fields: Any) -> Callable[[], ops.Request]:
    return lambda: ops.LIST_JOBS.request(
        **{"namespace": "n", "deployment_id": "d", "page_index": 1, "page_size": 10, **fields}
    )


BAD: list[tuple[Callable[[], ops.Request], str]] = [
    (by_ip(dst_ip=None), "src_ip or dst_ip"),
    (by_ip(dst_ip="10.0.0.300"), "dst_ip"),
    (by_ip(dst_ip=""), "dst_ip"),
    (by_ip(dst_ip="fe80::1%eth0"), "dst_ip"),
    (by_ip(dst_ip="[::1]"), "dst_ip"),
    (by_ip(dst_ip=b"10.0.0.1"), "dst_ip"),
    (by_ip(dst_ip=167772161), "dst_ip"),
    (by_ip(src_ip="kafka"), "src_ip"),
    (by_ip(src_port=1), "src_port: needs src_ip"),
    (by_ip(dst_ip=None, src_ip="10.0.0.1", dst_port=1), "dst_port: needs dst_ip"),
    (by_ip(dst_port=0), "dst_port"),
    (by_ip(dst_port=65536), "dst_port"),
    (by_ip(dst_port="9092"), "dst_port"),
    (by_ip(dst_port=True), "dst_port"),
    (by_ip(ignore_job_summary=1), "ignore_job_summary"),
    (by_ip(ignore_resource_setting="true"), "ignore_resource_setting"),
    (by_ip(namespace=""), "namespace"),
    (by_ip(namespace="."), "namespace"),
    (by_ip(namespace=".."), "namespace"),
    (by_ip(namespace=None), "namespace"),
    (by_ip(namespace="a\nb"), "namespace"),
    (by_ip(namespace="\ud800"), "namespace"),
    (by_ip(namespace="n" * 2000), "namespace"),
    (by_label(), "label values"),
    (by_label("a,b"), "separates values"),
    (by_label(""), "label value"),
    (by_label(7), "label value"),
    (by_label("v", key=""), "key"),
    (by_label("v", key=None), "key"),
    (listed(label_key="k", label_values=["a;b"]), "separates values"),
    (listed(label_key="k", label_values="ab"), "label values"),
    (listed(page_index=0), "page_index"),
    (listed(page_size=101), "page_size"),
    (listed(page_size=0), "page_size"),
    (listed(name=""), "name"),
    (listed(status=5), "status"),
    (jobs(deployment_id=""), "deployment_id"),
    (jobs(deployment_id=None), "deployment_id"),
]


@pytest.mark.parametrize(("make", "named"), BAD, ids=[f"{row[1]}-{number}" for number, row in enumerate(BAD)])
def test_invalid_parameters(make: Callable[[], ops.Request], named: str) -> None:
    with pytest.raises(BadRequest) as caught:
        make()
    assert named in str(caught.value)


@given(st.text(), st.text())
def test_any_text(namespace: str, name: str) -> None:
    try:
        request = ops.LIST_DEPLOYMENTS.request(namespace=namespace, page_index=1, name=name)
    except BadRequest:
        return
    assert request.target.isascii() and request.target.isprintable() and " " not in request.target
    assert request.path.count("/") == 5
