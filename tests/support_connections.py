"""The connections that were open between pods of the cluster, as the kernels of its nodes know them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from cluster import kind_cluster
from support_kind import LABEL, Object, Served, get
from support_policies import Pod, allowed

ROLE = "serving.glm5.io/role"
# The second half of a line is the answer's way: it comes from the pod that a service chose.
LINE = re.compile(r"^(tcp|udp) .*?src=(\S+) .*? src=(\S+) dst=\S+ sport=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class End:
    """A pod at one end."""

    name: str
    role: str
    pod: Pod

    def __hash__(self) -> int:
        return hash((self.name, self.pod.address))


@dataclass(frozen=True)
class Connection:
    """Who opened a connection to whom."""

    source: End
    target: End
    port: int
    protocol: str


def seen(served: Served, gone: Iterable[Object] = ()) -> set[Connection]:
    """Return the connections that are or were open and of which one end is a pod of the deployment.

    Args:
        served: the deployment.
        gone: pods that are not there any more.
    """
    pods = [pod for pod in [*gone, *get("/api/v1/pods")["items"]] if _has_own_address(pod)]
    ends = {pod["status"]["podIP"]: _end(pod) for pod in pods}
    ours = {pod["status"]["podIP"] for pod in pods if _is_of(pod, served)}
    found = set()
    for node in kind_cluster.nodes()[1:]:
        for protocol, source, target, port in LINE.findall(_conntrack(node)):
            if {source, target} <= ends.keys() and {source, target} & ours:
                found.add(Connection(ends[source], ends[target], int(port), protocol.upper()))
    return found


def forbidden(served: Served, found: Iterable[Connection]) -> list[Connection]:
    """Return those that the policies of the namespace do not allow."""
    policies = get(f"/apis/networking.k8s.io/v1/namespaces/{served.namespace}/networkpolicies")["items"]
    return [one for one in found if not allowed(policies, one.source.pod, one.target.pod, one.port, one.protocol)]


def _conntrack(node: str) -> str:
    command = ["docker", "exec", node, "conntrack", "-L"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _has_own_address(pod: Object) -> bool:
    return bool(pod["status"].get("podIP")) and not pod["spec"].get("hostNetwork")


def _is_of(pod: Object, served: Served) -> bool:
    labels = pod["metadata"].get("labels", {})
    return pod["metadata"]["namespace"] == served.namespace and labels.get(LABEL) == served.name and ROLE in labels


def _end(pod: Object) -> End:
    metadata, address = pod["metadata"], pod["status"]["podIP"]
    labels = metadata.get("labels", {})
    return End(metadata["name"], labels.get(ROLE, ""), Pod(metadata["namespace"], labels, address))
