"""The API server of the test support is a real one: it stores, admits, collects garbage, and can be taken away."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support_apiserver import ApiServer

pytestmark = pytest.mark.apiserver
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


def test_a_config_map_goes_when_its_owner_goes_and_not_before(api: ApiServer) -> None:
    api.apply(config_map("owner"))
    owner = json.loads(api.kubectl("get", "configmap", "owner", "-o", "json"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    api.apply(config_map("owned", ownerReferences=[reference]), config_map("free"))
    assert names(api) >= {"owner", "owned", "free"}

    api.kubectl("delete", "configmap", "owner")

    wait_until(lambda: "owned" not in names(api))
    assert "free" in names(api)


def test_a_restricted_namespace_refuses_a_privileged_pod_and_admits_a_plain_one(api: ApiServer) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fenced", "labels": labels}})
    wait_until(lambda: "default" in api.kubectl("get", "serviceaccount", "-n", "fenced"))
    api.apply(pod("plain", privileged=False))

    with pytest.raises(subprocess.CalledProcessError) as refusal:
        api.apply(pod("bad", privileged=True))

    assert 'violates PodSecurity "restricted' in refusal.value.stderr
    assert "plain" in api.kubectl("get", "pods", "-n", "fenced")


def test_a_service_account_may_do_what_its_role_says_and_nothing_else(api: ApiServer) -> None:
    api.kubectl("create", "namespace", "tenant")
    api.kubectl("create", "serviceaccount", "reader", "-n", "tenant")
    api.kubectl("create", "role", "read", "-n", "tenant", "--verb=list", "--resource=configmaps")
    api.kubectl("create", "rolebinding", "read", "-n", "tenant", "--role=read", "--serviceaccount=tenant:reader")
    reader = api.kubeconfig_of("tenant", "reader")
    wait_until(lambda: may(api, reader, verb="list"))

    assert not may(api, reader, verb="delete")


def test_objects_survive_an_outage_of_the_api_server(api: ApiServer) -> None:
    api.apply(config_map("lasting"))

    api.stop_apiserver()
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        api.kubectl("get", "configmap", "lasting")
    api.start_apiserver()

    assert "refused" in refusal.value.stderr
    assert "lasting" in names(api)


def test_a_halted_api_server_is_silent_and_answers_when_it_goes_on(api: ApiServer) -> None:
    api.halt()
    with pytest.raises(subprocess.CalledProcessError) as silence:
        api.kubectl("get", "configmaps", "--request-timeout=1s")
    api.resume()

    assert "refused" not in silence.value.stderr
    wait_until(lambda: bool(names(api)))


def config_map(name: str, **metadata: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", **metadata},
    }


def pod(name: str, *, privileged: bool) -> dict[str, object]:
    fences = {
        "privileged": privileged,
        "allowPrivilegeEscalation": privileged,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "fenced"},
        "spec": {"containers": [{"name": "main", "image": "none.invalid/none", "securityContext": fences}]},
    }


def names(api: ApiServer) -> set[str]:
    return set(api.kubectl("get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}").split())


def may(api: ApiServer, config: Path, verb: str) -> bool:
    try:
        return api.kubectl("auth", "can-i", verb, "configmaps", config=config).strip() == "yes"
    except subprocess.CalledProcessError as error:
        if error.stdout.strip() == "no":  # which is exit code 1
            return False
        raise


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"not so after {PATIENCE_SECONDS:.0f} s"
        time.sleep(0.1)
