"""The kind cluster of this machine: one control plane and two workers, made, reused and removed by name."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from cluster import cache, engine, kind_tool, kube, node_image, shell
from cluster.errors import StepError

NAME = "glm5"
NUM_WORKERS = 2
DEMO_PORT = 30080
"""The NodePort of the demo's gateway, and the port on 127.0.0.1 that leads to it."""
MODELS_IN_NODES = "/models"
STEP = "cluster"


def kubeconfig() -> Path:
    """Return the kubeconfig of the cluster's administrator; it exists while the cluster does."""
    return cache.root() / f"kubeconfig-{NAME}"


def models() -> Path:
    """Return the folder of this machine that every node sees as MODELS_IN_NODES."""
    path = cache.root() / "models"
    path.mkdir(exist_ok=True)
    return path


def up() -> None:
    """Make the cluster, or keep the one that is there if it is healthy and made of the current node image.

    Raises:
        StepError: a part does not build, or the nodes are not Ready in time.
    """
    engine.ensure()
    image = node_image.tag()
    with cache.locked(STEP):
        if not _is_current(image):
            _delete()
            _create(image)
    shell.say(f"{STEP}: ready, KUBECONFIG={kubeconfig()}")


def down() -> None:
    """Remove the cluster, and end the Docker engine if it was started here."""
    if engine.answers():
        _delete()
    kubeconfig().unlink(missing_ok=True)
    engine.stop()


def nodes() -> list[str]:
    """Return the container names of the nodes, the control plane first."""
    return sorted(shell.output(STEP, [str(kind_tool.binary()), "get", "nodes", "--name", NAME]).split())


def kubectl(*args: str, stdin: str = "", timeout_seconds: float = shell.MINUTE) -> str:
    """Return what kubectl prints about the cluster.

    Raises:
        StepError: kubectl failed; its words are in the text.
    """
    command = [str(kube.command("kubectl")), "--kubeconfig", str(kubeconfig()), *args]
    return shell.output(STEP, command, stdin=stdin, timeout_seconds=timeout_seconds)


def _create(image: str) -> None:
    shell.say(f"{STEP}: creating 1 control plane and {NUM_WORKERS} workers (about a minute)")
    cure = f"`docker logs {NAME}-control-plane` has more; `python -m cluster down` removes what is there"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(_config(image), config)
        config.flush()
        command = [str(kind_tool.binary()), "create", "cluster", "--name", NAME, "--config", config.name]
        command += ["--kubeconfig", str(kubeconfig()), "--wait", "180s", "--retain"]
        shell.run(STEP, command, timeout_seconds=10 * shell.MINUTE, cure=cure)
    wait_seconds = 5 * shell.MINUTE
    kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=240s", timeout_seconds=wait_seconds)
    coredns = ["rollout", "status", "deployment/coredns", "--timeout=240s"]
    kubectl("-n", "kube-system", *coredns, timeout_seconds=wait_seconds)


def _config(image: str) -> dict[str, object]:
    mounts = [{"hostPath": str(models()), "containerPath": MODELS_IN_NODES, "readOnly": True}]
    port = {"containerPort": DEMO_PORT, "hostPort": DEMO_PORT, "listenAddress": "127.0.0.1"}
    common = {"image": image, "extraMounts": mounts}
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [
            {"role": "control-plane", "extraPortMappings": [port], **common},
            *[{"role": "worker", **common} for _ in range(NUM_WORKERS)],
        ],
    }


def _is_current(image: str) -> bool:
    """Return whether all nodes run, were made of `image` and are Ready."""
    if not kubeconfig().exists():
        return False
    names = nodes()
    if len(names) != 1 + NUM_WORKERS:
        return False
    query = ["docker", "inspect", "--format", "{{.Config.Image}} {{.State.Running}}", *names]
    found = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[:-1]
    if found != [f"{image} true"] * len(names):
        return False
    try:
        kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s", timeout_seconds=90)
    except StepError:
        return False
    return True


def _delete() -> None:
    command = [str(kind_tool.binary()), "delete", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig())]
    shell.run(STEP, command, timeout_seconds=5 * shell.MINUTE)
