"""The NetworkPolicies, evaluated for every pair of pods as Kubernetes defines it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from glm5_operator import names
from glm5_operator.manifests import ADMIN_PORT, GRPC_PORT, HTTP_PORT, matrix
from glm5_spec.resource import ROLE_NAMES
from support_manifests import children, example
from support_policies import Pod, allowed

POLICIES: list[dict[str, Any]] = [one for one in children(example("nvidia")) if one["kind"] == "NetworkPolicy"]
OPERATOR = Pod("glm5-system", {"app.kubernetes.io/name": "glm5-operator"})
STRANGER = Pod("serving", {"app": "other"})
MONITOR = Pod("monitoring", {"app": "prometheus"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
NODE_LOCAL_DNS = Pod("", {}, "169.254.20.10")


def pod(role: str, deployment: str = "glm5") -> Pod:
    return Pod("serving", names.labels(deployment, role, "r"))  # type: ignore[arg-type]


def job(what: str) -> Pod:
    return Pod("serving", {**names.labels("glm5"), names.JOB_LABEL: what})


@pytest.mark.parametrize(("source", "target"), list(product(ROLE_NAMES, ROLE_NAMES)))
def test_roles_reach_each_other_exactly_as_the_matrix_says(source: str, target: str) -> None:
    named = target in matrix.peers(source)  # type: ignore[arg-type]

    # A gateway's port is open to every client, but a role that has no business there is not let out.
    assert allowed(POLICIES, pod(source), pod(target), GRPC_PORT) == named


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_the_admin_port_is_the_operators_and_the_monitors(role: str) -> None:
    assert allowed(POLICIES, OPERATOR, pod(role), ADMIN_PORT)
    assert allowed(POLICIES, MONITOR, pod(role), ADMIN_PORT)
    assert not allowed(POLICIES, STRANGER, pod(role), ADMIN_PORT)
    assert not allowed(POLICIES, Pod("default", OPERATOR.labels), pod(role), ADMIN_PORT)
    assert not allowed(POLICIES, pod("decode"), pod(role), ADMIN_PORT)


def test_clients_reach_the_gateway_and_nothing_else() -> None:
    assert allowed(POLICIES, STRANGER, pod("gateway"), HTTP_PORT)
    assert allowed(POLICIES, STRANGER, pod("gateway"), GRPC_PORT)
    for role in ("prefill", "decode", "experts"):
        assert not allowed(POLICIES, STRANGER, pod(role), GRPC_PORT)


def test_another_deployment_is_a_stranger() -> None:
    assert not allowed(POLICIES, pod("decode", "other"), pod("experts"), GRPC_PORT)
    assert not allowed(POLICIES, pod("decode"), pod("experts", "other"), GRPC_PORT)


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_role_reaches_dns_on_the_node_too_and_the_collector(role: str) -> None:
    for resolver in (DNS, NODE_LOCAL_DNS):
        assert allowed(POLICIES, pod(role), resolver, 53, "UDP")
        assert allowed(POLICIES, pod(role), resolver, 53)
    assert allowed(POLICIES, pod(role), Pod("monitoring", {"app": "collector"}), 4318)
    assert not allowed(POLICIES, pod(role), Pod("", {}, "203.0.113.9"), 443)


def test_the_check_talks_to_nobody_and_the_download_to_its_hub() -> None:
    hub = Pod("", {}, "203.0.113.9")
    policies = [one for one in children(example("huggingface")) if one["kind"] == "NetworkPolicy"]
    download, check = (
        Pod("serving", {**names.labels("glm5-hub"), names.JOB_LABEL: what}) for what in ("download", "check")
    )

    assert allowed(policies, download, hub, 443)
    assert allowed(policies, download, DNS, 53, "UDP")
    assert not allowed(policies, download, hub, 22)
    assert not allowed(policies, check, hub, 443)
    assert not allowed(policies, check, DNS, 53, "UDP")
    assert not allowed(POLICIES, job("check"), pod("decode"), GRPC_PORT)
