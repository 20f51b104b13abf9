"""A pod that has no business with a deployment and tries to connect all the same, beside one that nobody may reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import support_pods as pods
from cluster import kind_cluster
from support_kind import Object, get

STRANGER, FENCED = "stranger", "fenced"
PORT = 8000
OPENS = """
import socket
try:
    socket.create_connection(({0!r}, {1}), timeout=3).close()
    print("open")
except OSError:
    print("closed")
"""


@contextmanager
def strangers(namespace: str) -> Iterator[Callable[[str, int], bool]]:
    """Run both pods in a namespace; yield what tells whether the stranger can connect to an address and port."""
    nobody = {"podSelector": {"matchLabels": {"app": FENCED}}, "policyTypes": ["Ingress"]}
    policy: Object = {"metadata": {"name": FENCED, "namespace": namespace}, "spec": nobody}
    pods.apply(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **policy},
        pods.pod(STRANGER, namespace, "http.server", "--directory", "/tmp"),
        pods.pod(FENCED, namespace, "http.server", "--directory", "/tmp", app=FENCED),
    )
    pods.wait_ready(namespace, STRANGER, FENCED)
    try:
        yield lambda address, port: "open" in pods.python(namespace, STRANGER, OPENS.format(address, port))
    finally:
        kind_cluster.kubectl("delete", "-n", namespace, f"networkpolicy/{FENCED}", f"pod/{STRANGER}", f"pod/{FENCED}")


def address_of(namespace: str, name: str) -> str:
    """Return the address of a pod."""
    return str(get(f"/api/v1/namespaces/{namespace}/pods/{name}")["status"]["podIP"])
