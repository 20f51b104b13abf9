"""The cluster of the tests is what a user's cluster is: names, services, admission, nodes that come back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import pytest

import support_pods as pods
from cluster import kind_cluster
from cluster.errors import StepError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
PATIENCE_SECONDS = 240.0
FETCH = "import urllib.request; print(urllib.request.urlopen('http://{0}:8000/', timeout=10).status)"
RESOLVE = "import socket; print(*sorted({{a[4][0] for a in socket.getaddrinfo('{0}', 80)}}))"


def test_pods_on_different_nodes_reach_each_other_by_address_service_and_headless_name(namespace: str) -> None:
    serve(namespace)

    addresses = {name: address_of(namespace, name) for name in ("one", "two")}

    assert pods.python(namespace, "one", FETCH.format(addresses["two"])).strip() == "200"
    assert pods.python(namespace, "two", FETCH.format("web")).strip() == "200"
    found = pods.python(namespace, "one", RESOLVE.format("peers")).split()
    assert found == sorted(addresses.values())


def test_the_restricted_level_refuses_a_pod_that_may_become_root(namespace: str) -> None:
    bad = pods.pod("bad", namespace, "http.server")
    bad["spec"].pop("securityContext")  # type: ignore[attr-defined]

    with pytest.raises(StepError, match='violates PodSecurity "restricted'):
        pods.apply(bad)


def test_a_node_that_was_killed_comes_back_with_its_routes(namespace: str) -> None:
    serve(namespace)
    worker = kind_cluster.nodes()[1]
    assert node_of(namespace, "one") == worker

    subprocess.run(["docker", "kill", worker], check=True, capture_output=True)
    subprocess.run(["docker", "start", worker], check=True, capture_output=True)

    pods.wait_ready(namespace, "one", "two")
    wait_until(lambda: answers(namespace, "two", address_of(namespace, "one")))
    wait_until(lambda: answers(namespace, "one", address_of(namespace, "two")))


def serve(namespace: str) -> None:
    """Run a web server on each worker, behind a Service and a headless one."""
    workers = kind_cluster.nodes()[1:]
    names = ("one", "two")
    for name, worker in zip(names, workers, strict=True):
        web = pods.pod(name, namespace, "http.server", "--directory", "/tmp", node=worker, app="web")
        pods.apply(web)
    pods.apply(service("web", namespace), service("peers", namespace, clusterIP="None"))
    pods.wait_ready(namespace, *names)


def service(name: str, namespace: str, **spec: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 8000}], **spec},
    }


def address_of(namespace: str, name: str) -> str:
    return str(get_pod(namespace, name)["status"]["podIP"])  # type: ignore[index]


def node_of(namespace: str, name: str) -> str:
    return str(get_pod(namespace, name)["spec"]["nodeName"])  # type: ignore[index]


def get_pod(namespace: str, name: str) -> dict[str, object]:
    found = json.loads(kind_cluster.kubectl("get", "pod", "-n", namespace, name, "-o", "json"))
    assert isinstance(found, dict)
    return found


def answers(namespace: str, client: str, server: str) -> bool:
    try:
        return pods.python(namespace, client, FETCH.format(server)).strip() == "200"
    except StepError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"not so after {PATIENCE_SECONDS:.0f} s"
        time.sleep(0.5)
