"""The operator as a process on a real API server, and the kubelet's part in what it waits for."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from glm5_operator.kinds import WRITTEN
from glm5_operator.names import DEPLOYMENT_LABEL
from support_apiserver import ApiServer
from support_operator import manifest

CRDS = Path(__file__).parents[1] / "charts/glm5-operator/files/crds"
PATIENCE_SECONDS = 120.0
T = TypeVar("T")
PASSES, WRITES = "glm5_operator_passes_total", "glm5_operator_writes_total"
# Below the range from which the kernel takes ports for clients.
PORTS = range(20_000, 30_000)
KINDS = ",".join(f"{kind.plural}.{kind.group}" if kind.group else kind.plural for kind in WRITTEN)


class OperatorProcess:
    """One replica of the operator; as a context manager it is killed at the end if it still runs.

    Its lease is its own and long unless settings say otherwise: a starved machine does not make it lose the lead.
    """

    def __init__(self, api: ApiServer, log: Path, **settings: object) -> None:
        self.log = log
        self.port = _free_port()
        values = {"kubeconfig": api.kubeconfig, "probe_port": 0, "metrics_port": self.port, "host": "127.0.0.1"}
        values |= {"lease_name": f"lease-{self.port}", "lease_seconds": 90, "renew_seconds": 60, "poll_seconds": 0.5}
        values |= settings
        variables = {f"GLM5_OPERATOR_{key.upper()}": str(value) for key, value in values.items()}
        with log.open("ab") as out:
            command = [sys.executable, "-m", "glm5_operator"]
            self.process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=out, stderr=out)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"the operator's log ends:\n{self.tail()}")
        self.kill()

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def terminate(self) -> int:
        """Ask it to end; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels; 0 if it was never counted."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE_SECONDS) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def leads(self) -> bool:
        """Return whether it holds the lease."""
        assert self.process.poll() is None, f"the operator ended:\n{self.tail()}"
        try:
            return self.metric("glm5_operator_leader") == 1
        except OSError:  # not listening yet
            return False


def apply_deployment(api: ApiServer, namespace: str, name: str = "demo", **spec: Any) -> None:
    """Create or change a deployment as a user would, in a namespace that is made if need be."""
    wanted = manifest(name, namespace, **spec)
    wanted["metadata"] = {"name": name, "namespace": namespace}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    api.apply(wanted)


def children(api: ApiServer, namespace: str, name: str = "demo") -> dict[tuple[str, str], dict[str, Any]]:
    """Return what the operator wrote for a deployment, by kind and name."""
    text = api.kubectl("get", KINDS, "-n", namespace, "-l", f"{DEPLOYMENT_LABEL}={name}", "-o", "json")
    found = json.loads(text)["items"]
    # StatefulSets keep ControllerRevisions of their own, with the labels of their pods.
    return {(one["kind"], one["metadata"]["name"]): one for one in found if _owner(one) != "StatefulSet"}


def _free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port among 100 tried in {PORTS}")


def _owner(one: dict[str, Any]) -> str:
    return next((owner["kind"] for owner in one["metadata"].get("ownerReferences", [])), "")


def condition(api: ApiServer, namespace: str, kind: str, name: str = "demo") -> dict[str, Any]:
    """Return a condition of a deployment; empty while there is none."""
    live = json.loads(api.kubectl("get", "glm5", name, "-n", namespace, "-o", "json"))
    conditions = live.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def install_crds(api: ApiServer) -> None:
    """Apply our CustomResourceDefinitions, and wait until the API server takes such objects."""
    api.kubectl("apply", "--server-side", "-f", str(CRDS))
    api.kubectl("wait", "--for=condition=Established", "--timeout=120s", "-f", str(CRDS))


def pass_check(api: ApiServer, namespace: str, name: str = "demo", **report: Any) -> None:
    """Do what kubelet and container do with the pod of the check Job: it ends, with a report as its last words.

    Keywords are the report; with `faults` in it the container's exit code is 1.
    """
    pod = wait_for(lambda: _check_pod(api, namespace, name), "the check Job has a pod")
    code = 1 if report.get("faults") else 0
    ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": json.dumps(report or {})}
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}
    container = {"name": "check", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
    body = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{**container, "state": {"terminated": {**ended, **times}}}],
    }
    patch = json.dumps({"status": body})
    api.kubectl("patch", "pod", pod, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def pass_checks(api: ApiServer) -> None:
    """Let the pods of all check Jobs, in every namespace, end well and without a report."""
    pending = ("-l", "serving.glm5.io/job=check", "--field-selector=status.phase=Pending")
    names: dict[str, list[str]] = {}
    for pod in json.loads(api.kubectl("get", "pods", "-A", *pending, "-o", "json"))["items"]:
        names.setdefault(pod["metadata"]["namespace"], []).append(f"pod/{pod['metadata']['name']}")
    for namespace, pods in names.items():
        status = json.dumps({"status": {"phase": "Succeeded"}})
        api.kubectl("patch", "-n", namespace, *pods, "--subresource=status", "--type=merge", "-p", status)


def _check_pod(api: ApiServer, namespace: str, name: str) -> str:
    labels = f"{DEPLOYMENT_LABEL}={name},serving.glm5.io/job=check"
    phase = "--field-selector=status.phase=Pending"
    return api.kubectl("get", "pods", "-n", namespace, "-l", labels, phase, "-o", "jsonpath={.items[*].metadata.name}")


def wait_for(found: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Return the first answer that is true."""
    until = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < until, f"not so after {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return answer


def settle(operator: OperatorProcess, api: ApiServer, namespace: str) -> None:
    """Wait until a pass that began after this call has ended.

    The first pass that ends may have begun before; so there are two, each after news of its own.
    """
    for turn in range(2):
        ended = operator.metric(PASSES)
        api.kubectl("annotate", "glm5", "demo", "-n", namespace, "--overwrite", f"test/touched={ended}-{turn}")
        wait_for(lambda: operator.metric(PASSES) > ended, "a pass ended")  # noqa: B023


def passes_write_nothing(operator: OperatorProcess, api: ApiServer, namespace: str) -> bool:
    """Return whether a pass that begins after this call finds nothing to write."""
    writes = operator.metric(WRITES)
    settle(operator, api, namespace)
    return operator.metric(WRITES) == writes
