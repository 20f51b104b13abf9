"""Nodes that offer devices, patched into their status: pods of each type of accelerator go to nodes that have it.

No device is there, so the processes cannot start: what is tested is where the scheduler puts them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster import kind_cluster
from support_kind import Object, Served, claim_models, install_model, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
MODEL = "toy-a"
ROLES = ("prefill", "decode", "experts")
ASCEND = "huawei.com/Ascend910"
KINDS = {
    "nvidia": ("nvidia.com/gpu", {}),
    "ascend-a2": (ASCEND, {"accelerator": "huawei-Ascend910", "accelerator-type": "module-910b-8"}),
    "ascend-a3": (ASCEND, {"accelerator": "huawei-Ascend910", "accelerator-type": "module-a3-16"}),
}
"""Accelerator to its resource and the labels of its nodes."""


@contextmanager
def devices(node: str, resource: str, count: int, labels: dict[str, str]) -> Iterator[None]:
    """Let a node offer devices inside the block."""
    where = f"/status/capacity/{resource.replace('/', '~1')}"
    patch = ["patch", "node", node, "--subresource=status", "--type=json", "-p"]
    kind_cluster.kubectl(*patch, json.dumps([{"op": "add", "path": where, "value": str(count)}]))
    if labels:
        kind_cluster.kubectl("label", "node", node, "--overwrite", *(f"{key}={one}" for key, one in labels.items()))
    try:
        yield
    finally:
        kind_cluster.kubectl(*patch, json.dumps([{"op": "remove", "path": where}]))
        if labels:
            kind_cluster.kubectl("label", "node", node, *(f"{key}-" for key in labels))


@pytest.mark.parametrize("kind", KINDS)
def test_pods_go_where_their_devices_are(operator: None, namespace: str, kind: str) -> None:
    resource, labels = KINDS[kind]
    install_model(MODEL, seed=1)
    claim_models(namespace)
    here, elsewhere = kind_cluster.nodes()[1:]
    other, labels_of_other = KINDS["ascend-a2" if kind == "ascend-a3" else "ascend-a3"]
    served = Served(namespace)
    sections: dict[str, Object] = {role: {"accelerator": {"type": kind, "count": 1}, "replicas": 1} for role in ROLES}
    sections["experts"] |= {"shards": 2}
    with devices(here, resource, 3, labels), devices(elsewhere, other, 8, labels_of_other):
        served.create(MODEL, **sections)
        pods = wait_for(lambda: scheduled(served, 3), "as many pods as devices have a node")
        assert {pod["spec"]["nodeName"] for pod in pods} == {here}
        for pod in pods:
            assert pod["spec"]["containers"][0]["resources"]["limits"][resource] == "1"

        # The fourth finds no device, and the deployment says so.
        found = wait_for(lambda: unschedulable(served), "a condition says what is lacking")
        assert resource in found["message"]
        kind_cluster.kubectl("delete", "glm5", "-n", namespace, served.name)


def scheduled(served: Served, count: int) -> list[Object]:
    """Return the pods of computing roles that have a node, once there are `count`."""
    pods = [pod for role in ROLES for pod in served.pods(role) if pod["spec"].get("nodeName")]
    return pods if len(pods) == count else []


def unschedulable(served: Served) -> Object:
    found = [served.condition(kind) for kind in ("PrefillReady", "DecodeReady", "ExpertsReady")]
    return next((one for one in found if one.get("reason") == "Unschedulable"), {})
