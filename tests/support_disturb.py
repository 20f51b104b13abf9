"""What tests do to the cluster while it serves: its DNS, its API server, its operators, the names of its images."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import httpx

from cluster import demo, images, kind_cluster
from glm5_operator.failpoint import EXIT_CODE
from support_kind import Repeated, api, connect, get, wait_for


@contextmanager
def corefile(edit: Callable[[str], str]) -> Iterator[None]:
    """Run the cluster's DNS with an edited configuration inside the block."""
    where = ["-n", "kube-system", "configmap", "coredns"]
    before = kind_cluster.kubectl("get", *where, "-o", "jsonpath={.data.Corefile}")
    assert edit(before) != before
    where = ["-n", "kube-system", "deployment/coredns"]
    try:
        configure_dns(edit(before))
        kind_cluster.kubectl("rollout", "restart", *where)
        kind_cluster.kubectl("rollout", "status", *where, "--timeout=300s", timeout_seconds=330)
        yield
    finally:
        configure_dns(before)
        kind_cluster.kubectl("rollout", "restart", *where)  # those of before serve until the new ones do


def configure_dns(text: str) -> None:
    body = json.dumps({"data": {"Corefile": text}})
    kind_cluster.kubectl("patch", "-n", "kube-system", "configmap", "coredns", "--type=merge", "-p", body)


@contextmanager
def stopped_api_server() -> Iterator[None]:
    """Stop the API server inside the block: its kubelet loses the manifest and ends it.

    It is back when pods reach it: as it goes it takes itself out of its Service, and each node's kube-proxy, which asks
    for changes after longer and longer pauses (up to 30 s), brings it in again.
    """
    node, *workers = kind_cluster.nodes()
    service = get("/api/v1/namespaces/default/services/kubernetes")["spec"]["clusterIP"]
    here, away = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml"
    in_node(node, "mv", here, away)
    try:
        wait_for(lambda: not api_answers(), "the API server is away")
        yield
    finally:
        in_node(node, "mv", away, here)
        # Connections from before may hang in the forwarded port: whoever waits on one measures that.
        wait_for(api_answers, "the API server is back")
        api().close()
        api.cache_clear()
        for worker in workers:
            wait_for(lambda: listens(worker, service), f"pods on {worker} reach the API server")  # noqa: B023


def api_answers() -> bool:
    try:
        with connect(5) as fresh:
            return fresh.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def listens(node: str, address: str) -> bool:
    """Return whether a connection from a node to port 443 of an address is accepted within 2 s."""
    command = ["docker", "exec", node, "timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{address}/443"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def in_node(node: str, *command: str) -> None:
    subprocess.run(["docker", "exec", node, *command], check=True, capture_output=True, timeout=60)


class DyingOperators(Repeated):
    """Operators that end after some writes, and then make room at once for another: inside the block.

    Their lease is short, since who dies does not give it back.
    """

    def __init__(self, writes: int) -> None:
        super().__init__(self._replace)
        self._writes = writes
        self.deaths: set[tuple[str, str]] = set()
        """(pod, time) of each end by the failpoint."""

    def __enter__(self) -> Self:
        configure_operators(FAILPOINT_WRITE=f"={self._writes}", LEASE_SECONDS="=5", RENEW_SECONDS="=3")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        configure_operators(FAILPOINT_WRITE="-", LEASE_SECONDS="-", RENEW_SECONDS="-")

    def _replace(self) -> None:
        for pod in get(f"/api/v1/namespaces/{demo.OPERATOR_NAMESPACE}/pods")["items"]:
            status = (pod["status"].get("containerStatuses") or [{}])[0]
            ends = [status.get(key, {}).get("terminated") for key in ("state", "lastState")]
            mine = [end for end in ends if end and end["exitCode"] == EXIT_CODE]
            self.deaths |= {(pod["metadata"]["uid"], end["finishedAt"]) for end in mine}
            # The kubelet would wait longer and longer before it starts it again.
            if "waiting" in status.get("state", {}) and any(ends):
                name = pod["metadata"]["name"]
                api().delete(f"/api/v1/namespaces/{demo.OPERATOR_NAMESPACE}/pods/{name}?gracePeriodSeconds=0")


def configure_operators(**variables: str) -> None:
    """Set ("=VALUE") or remove ("-") variables of the operators, and wait for the new ones."""
    where = ["-n", demo.OPERATOR_NAMESPACE, "deployment/glm5-operator"]
    kind_cluster.kubectl("set", "env", *where, *(f"GLM5_OPERATOR_{name}{value}" for name, value in variables.items()))
    kind_cluster.kubectl("rollout", "status", *where, "--timeout=300s", timeout_seconds=330)


def other_tag(image: str) -> str:
    """Return another name of an image, on the nodes too: for Kubernetes it is another image."""
    name = images.tag(image).replace(":dev", ":next")
    subprocess.run(["docker", "tag", images.tag(image), name], check=True, timeout=60)
    for node in kind_cluster.nodes()[1:]:
        full = [f"docker.io/{one}" for one in (images.tag(image), name)]
        in_node(node, "ctr", "-n", "k8s.io", "images", "tag", "--force", *full)
    return name
