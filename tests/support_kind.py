"""A GLM5Deployment in the kind cluster as a test sees it: its objects, its pods and what their processes say."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import yaml

from cluster import helm, kind_cluster, wheels
from cluster.errors import StepError
from glm5_model.toy import write_toy

PATIENCE_SECONDS = 600.0
LOOK_SECONDS = 0.5
TOY = wheels.REPOSITORY / "examples" / "toy.yaml"
CLAIM = "glm5-model"
LABEL = "serving.glm5.io/deployment"
GONE = 404
Object = dict[str, Any]
T = TypeVar("T")


@cache
def api() -> httpx.Client:
    """Return the client that tests share."""
    return connect(60)


def connect(timeout_seconds: float | None) -> httpx.Client:
    """Return a client of the cluster's API server with the rights of its administrator: a read costs no process."""
    config = yaml.safe_load(kind_cluster.kubeconfig().read_text())
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trust = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pem:
        for key in ("client-certificate-data", "client-key-data"):
            pem.write(base64.b64decode(user[key]) + b"\n")
        pem.flush()
        trust.load_cert_chain(pem.name)
    return httpx.Client(base_url=server["server"], verify=trust, timeout=timeout_seconds, trust_env=False)


def get(path: str, **query: str) -> Object:
    """Return what the API server has at `path`; empty if nothing is there."""
    answer = api().get(path, params=query)
    return {} if answer.status_code == GONE else dict(answer.raise_for_status().json())


def wait_for(found: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Return the first answer that is true; an API server or a pod that does not answer is asked again."""
    until, last = time.monotonic() + seconds, ""
    while True:
        try:
            if answer := found():
                return answer
        except (httpx.HTTPError, StepError) as error:
            last = f" ({error!r})"
        assert time.monotonic() < until, f"not so after {seconds:.0f} s: {what}{last}"
        time.sleep(0.5)


def install_model(name: str, seed: int) -> Path:
    """Write a toy checkpoint of its own weights where every node sees it; return its folder on this machine."""
    path = kind_cluster.models() / name
    if not (path / "config.json").exists():
        draft = Path(tempfile.mkdtemp(dir=kind_cluster.models()))
        write_toy(draft / name, variant="5.0", dtype="float32", seed=seed)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(draft / name, path)
        draft.rmdir()
        path.chmod(0o755)
    return path


def claim_models(namespace: str) -> None:
    """Give a namespace the claim that examples/toy.yaml asks for, on the folder of models."""
    common: Object = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": namespace, "name": CLAIM},
        "hostPath": {"path": kind_cluster.MODELS_IN_NODES, "type": "Directory"},
    }
    claim = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": f"models-{namespace}"}
    apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim["volumeName"]}}
        | {"spec": common | volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM, "namespace": namespace}}
        | {"spec": common | claim},
    )
    # A pod that finds it unbound is looked at again only later.
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{CLAIM}"
    wait_for(lambda: get(path)["status"].get("phase") == "Bound", "the claim is bound")


def apply(*objects: Object) -> None:
    """Apply objects as `kubectl apply --server-side` does."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kind_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def run_helm(*args: str | Path) -> str:
    """Return what helm prints."""
    command = [str(helm.binary()), "--kubeconfig", str(kind_cluster.kubeconfig()), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Repeated:
    """Looks again and again in a thread, inside the block as a context manager; what does not answer is asked again."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with suppress(httpx.HTTPError):
                self._look()


class Served:
    """One deployment."""

    def __init__(self, namespace: str, name: str = "toy") -> None:
        self.namespace, self.name = namespace, name

    def create(self, model: str, **fields: Any) -> None:
        """Apply examples/toy.yaml with the checkpoint `model`; fields replace its own, sections are merged."""
        wanted = yaml.safe_load(TOY.read_text())
        wanted["metadata"] = {"name": self.name, "namespace": self.namespace}
        wanted["spec"]["dtype"] = "float32"
        wanted["spec"]["model"] = model_section(model)
        for key, value in fields.items():
            wanted["spec"][key] = {**wanted["spec"].get(key, {}), **value} if isinstance(value, dict) else value
        apply(wanted)

    def patch(self, **sections: Any) -> None:
        """Change fields of the spec as `kubectl patch --type=merge` does."""
        body = json.dumps({"spec": sections})
        kind_cluster.kubectl("patch", "glm5", "-n", self.namespace, self.name, "--type=merge", "-p", body)

    def live(self) -> Object:
        """Return the object; empty if there is none."""
        return get(f"/apis/serving.glm5.io/v1alpha1/namespaces/{self.namespace}/glm5deployments/{self.name}")

    def condition(self, kind: str) -> Object:
        """Return a condition that was judged on the spec of now; empty while there is none."""
        live = self.live()
        found = live.get("status", {}).get("conditions", [])
        mine = [one for one in found if one["type"] == kind]
        return mine[0] if mine and mine[0]["observedGeneration"] == live["metadata"]["generation"] else {}

    def is_true(self, kind: str) -> bool:
        """Return whether a condition is True of the spec of now."""
        return bool(self.condition(kind).get("status") == "True")

    def wait_ready(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the spec of now is realised."""
        try:
            wait_for(lambda: self.is_true("Ready"), "Ready", seconds)
        except AssertionError as error:
            error.add_note(self.describe())
            raise

    def describe(self) -> str:
        """Return what a person would look at."""
        conditions = self.live().get("status", {}).get("conditions", [])
        lines = [f"{one['type']}={one['status']} {one['reason']} {one.get('message', '')}" for one in conditions]
        return "\n".join([*lines, kind_cluster.kubectl("get", "pods", "-n", self.namespace, "-o", "wide")])

    def pods(self, role: str = "") -> list[Object]:
        """Return the pods of a role, or of all roles, by name; those of Jobs are not among them."""
        selector = f"{LABEL}={self.name},serving.glm5.io/role" + (f"={role}" if role else "")
        found = get(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=selector)["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def names(self, role: str = "") -> list[str]:
        """Return the names of the pods."""
        return [pod["metadata"]["name"] for pod in self.pods(role)]

    def ready(self, role: str = "") -> list[Object]:
        """Return the pods that are ready and stay."""
        return [pod for pod in self.pods(role) if is_ready(pod)]

    def admin(self, pod: str, path: str) -> httpx.Response:
        """Return what a pod says on its admin port."""
        return api().get(f"/api/v1/namespaces/{self.namespace}/pods/{pod}:9100/proxy{path}").raise_for_status()

    def state(self, pod: str) -> Object:
        """Return the state of a pod's process."""
        return dict(self.admin(pod, "/v1/state").json())


def model_section(path: str) -> Object:
    """Return the section `model` for the checkpoint in a folder of the claim."""
    source = {"persistentVolumeClaim": {"claimName": CLAIM, "path": path}}
    return {"revision": path, "servedNames": ["toy"], "source": source}


def is_ready(pod: Object) -> bool:
    """Return whether a pod is ready and stays."""
    found = pod.get("status", {}).get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in found)
    return ready and "deletionTimestamp" not in pod["metadata"]
