"""Nodes that offer devices, patched into their status: pods of each type of accelerator go to nodes that have it.

No device is there, so the processes cannot start: what is tested is where the scheduler puts them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from cluster import kind_cluster
from support_kind import Object, Served, claim_models, install_model, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
MODEL = "toy-a"
ROLES = ("prefill", "decode", "experts")
PODS = 3
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


def test_pods_go_where_their_devices_are(operator: None, namespace: str) -> None:
    install_model(MODEL, seed=1)
    claim_models(namespace)
    nodes = dict(zip(("ascend-a2", "ascend-a3"), kind_cluster.nodes()[1:], strict=True))
    with offers(nodes["ascend-a2"], "ascend-a2", "nvidia"), offers(nodes["ascend-a3"], "ascend-a3"):
        served = {kind: demand(namespace, kind) for kind in KINDS}
        for kind, one in served.items():
            pods = wait_for(partial(scheduled, one, PODS), "as many pods as devices have a node")
            assert {pod["spec"]["nodeName"] for pod in pods} == {nodes.get(kind, nodes["ascend-a2"])}
            resource, _ = KINDS[kind]
            assert {pod["spec"]["containers"][0]["resources"]["limits"][resource] for pod in pods} == {"1"}

            # The fourth finds no device, though the other node may have some, and the deployment says so.
            found = wait_for(partial(unschedulable, one), "a condition says what is lacking")
            assert resource in found["message"]
        kind_cluster.kubectl("delete", "glm5", "-n", namespace, "--all")


@contextmanager
def offers(node: str, *kinds: str) -> Iterator[None]:
    """Let a node offer PODS devices of each kind inside the block."""
    with ExitStack() as stack:
        for resource, labels in (KINDS[kind] for kind in kinds):
            stack.enter_context(devices(node, resource, PODS, labels))
        yield


def demand(namespace: str, kind: str) -> Served:
    """Ask for a deployment of one pod more than there are devices."""
    sections: dict[str, Object] = {role: {"accelerator": {"type": kind, "count": 1}, "replicas": 1} for role in ROLES}
    sections["experts"] |= {"shards": 2}
    served = Served(namespace, kind)
    served.create(MODEL, **sections)
    return served


def scheduled(served: Served, count: int) -> list[Object]:
    """Return the pods of computing roles that have a node, once there are `count`."""
    pods = [pod for role in ROLES for pod in served.pods(role) if pod["spec"].get("nodeName")]
    return pods if len(pods) == count else []


def unschedulable(served: Served) -> Object:
    found = [served.condition(kind) for kind in ("PrefillReady", "DecodeReady", "ExpertsReady")]
    return next((one for one in found if one.get("reason") == "Unschedulable"), {})
