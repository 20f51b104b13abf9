"""Small pods of the product's own images, as `restricted` namespaces admit them."""

from __future__ import annotations

import json

from cluster import images, kind_cluster

READY_SECONDS = 180.0


def pod(name: str, namespace: str, *args: str, node: str = "", **labels: str) -> dict[str, object]:
    """Return a pod that runs `python3 -m ARGS` without any right, on `node` if given."""
    spec = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
        "containers": [
            {
                "name": "main",
                "image": images.tag("operator"),
                "args": list(args),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def apply(*objects: dict[str, object]) -> None:
    """Apply objects to the cluster."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kind_cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)


def wait_ready(namespace: str, *names: str) -> None:
    """Wait until the pods are Ready."""
    pods = [f"pod/{name}" for name in names]
    wait = ["wait", "-n", namespace, "--for=condition=Ready", f"--timeout={READY_SECONDS:.0f}s", *pods]
    kind_cluster.kubectl(*wait, timeout_seconds=READY_SECONDS + 30)


def python(namespace: str, name: str, code: str) -> str:
    """Return what `code` prints in the pod `name`."""
    return kind_cluster.kubectl("exec", "-n", namespace, name, "--", "python3", "-c", code)
