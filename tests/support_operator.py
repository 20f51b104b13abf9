"""Deployments and a model of a cluster for the operator's unit tests.

`Cluster` says in a few pure lines what controllers, kubelets and our processes do with what the operator
writes. It stands in for nothing: tests/integration runs the same planner against a real API server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from glm5_operator import diff, objects
from glm5_operator.kinds import DEPLOYMENT, JOB, POD, STATEFUL_SET, Manifest, kind_of
from glm5_operator.names import FIELD_MANAGER, GROUP_LABEL, REVISION_LABEL, ROLE_LABEL
from glm5_operator.steps import Apply, Delete, Step
from glm5_operator.world import World
from glm5_spec.admin import Holding, RoleState
from glm5_spec.resource import GLM5Deployment, from_object

UID = "11111111-2222-3333-4444-555555555555"
EXPERTS = 8
LAYERS = (1, 2)


def deployment(name: str = "demo", **spec: Any) -> GLM5Deployment:
    """Return a small deployment; keywords replace sections of its spec, given as JSON has them."""
    return from_object(manifest(name, **spec))


def manifest(name: str = "demo", namespace: str = "default", **spec: Any) -> Manifest:
    """Return the same as an object of the API."""
    body: dict[str, Any] = {
        "model": {
            "revision": "one",
            "servedNames": ["toy"],
            "source": {"persistentVolumeClaim": {"claimName": "models", "path": "good-one"}},
        },
        "images": {"runtime": "registry/runtime:1", "gateway": "registry/gateway:1"},
        "gateway": {"replicas": 1},
        "prefill": {"replicas": 1},
        "decode": {"replicas": 2},
        "experts": {"replicas": 1, "shards": 2},
        **spec,
    }
    return {
        "apiVersion": "serving.glm5.io/v1alpha1",
        "kind": "GLM5Deployment",
        "metadata": {"name": name, "namespace": namespace, "uid": UID, "generation": 1},
        "spec": body,
    }


def source(path: str) -> dict[str, Any]:
    """Return the section `model` for the checkpoint in `path`; a path that begins with "bad" is damaged."""
    return {
        "revision": path,
        "servedNames": ["toy"],
        "source": {"persistentVolumeClaim": {"claimName": "models", "path": path}},
    }


class Cluster:
    """Objects of one deployment, and what is done with them."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Manifest]] = {}
        self.ages: dict[str, int] = {}
        """Ticks that a pod has run."""
        self.once_ready: set[str] = set()
        self.leaving: dict[str, int] = {}
        """Ticks that a pod still needs to end."""
        self.bad_images: set[str] = set()
        self.drain_ticks = 1
        self._count = 0

    # What the operator does.

    def do(self, step: Step) -> None:
        """Do one step as the API server would."""
        if isinstance(step, Delete):
            live = self.all(step.kind.kind).get(step.name)
            if live is not None and live["metadata"]["uid"] == step.uid:
                self.remove(step.kind.kind, step.name)
            return
        found = self.all(step.manifest["kind"])
        live = found.get(objects.name(step.manifest))
        if live is not None and not isinstance(step, Apply):
            return
        found[objects.name(step.manifest)] = self._merged(live, step.manifest)

    def remove(self, kind: str, name: str) -> None:
        """Delete an object; pods go when their owner went."""
        self.all(kind).pop(name, None)

    def all(self, kind: str) -> dict[str, Manifest]:
        """Return the objects of a kind."""
        return self.objects.setdefault(kind, {})

    def world(self, silent: Iterable[str] = ()) -> World:
        """Return what can be observed; pods in `silent` do not answer."""
        states = {name: state for name in self.all("Pod") if (state := self.state(name)) and name not in set(silent)}
        return World({kind: dict(found) for kind, found in self.objects.items()}, states)

    def _merged(self, live: Manifest | None, wanted: Manifest) -> Manifest:
        merged = {**wanted, "metadata": dict(wanted["metadata"])}
        self._count += live is None
        before = live["metadata"] if live else {"uid": f"uid-{self._count}", "generation": 0}
        changed = live is None or live.get("spec") != wanted.get("spec")
        merged["metadata"] |= {"uid": before["uid"], "generation": before["generation"] + changed}
        merged["metadata"]["managedFields"] = [
            {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields(wanted)}
        ]
        if live and "status" in live:
            merged["status"] = live["status"]
        return merged

    # What the cluster does.

    def tick(self) -> None:
        """Let every controller and every process go one step."""
        for name in [name for name, left in self.leaving.items() if left <= 0]:
            self._forget(name)
        self.leaving = {name: left - 1 for name, left in self.leaving.items()}
        for pod in self.all("Pod").values():
            self._run(pod)
        for job in self.all("Job").values():
            self._job(job)
        self.collect()
        for live in self.all("StatefulSet").values():
            self._stateful_set(live)
        for live in self.all("Deployment").values():
            self._deployment(live)

    def kill(self, name: str) -> None:
        """End a pod at once; a controller will make another one."""
        self._forget(name)

    def state(self, name: str) -> RoleState | None:
        """Return what the process of a pod says; None while there is none."""
        pod = self.all("Pod").get(name)
        if pod is None or ROLE_LABEL not in pod["metadata"]["labels"] or not objects.running(pod):
            return None
        role = objects.label(pod, ROLE_LABEL)
        peers = self.routes(pod) if role in ("prefill", "decode") else []
        return RoleState(
            deployment=UID,
            role=role,  # type: ignore[arg-type]
            name=name,
            incarnation=pod["metadata"]["uid"],
            role_revision=objects.label(pod, REVISION_LABEL),
            compat=self.compat(pod),
            started=True,
            ready=name in self.once_ready,
            draining=name in self.leaving,
            shard_peers=peers,
            covered=self.covered(pod),
            holdings=self._holdings(pod) if role == "experts" else [],
        )

    def compat(self, pod: Manifest) -> str:
        """Return who the pod can talk to; empty for a gateway, and before the pod has its settings."""
        return str(pod.get("compat", ""))

    def routes(self, worker: Manifest) -> list[str]:
        """Return the shards to which a worker routes: all of its compat that serve."""
        shards = [pod for pod in self.all("Pod").values() if objects.label(pod, ROLE_LABEL) == "experts"]
        mine = [
            pod for pod in shards if objects.name(pod) in self.once_ready and self.compat(pod) == self.compat(worker)
        ]
        return sorted(objects.name(pod) for pod in mine if objects.name(pod) not in self.leaving)

    def covered(self, worker: Manifest) -> bool:
        """Return whether a worker reaches every expert."""
        if objects.label(worker, ROLE_LABEL) not in ("prefill", "decode"):
            return False
        return any(pods <= set(self.routes(worker)) for pods in self.complete_sets(self.compat(worker)))

    def complete_sets(self, compat: str) -> list[set[str]]:
        """Return the pods of each set whose shards all serve in `compat`."""
        found = []
        for name, live in self.all("StatefulSet").items():
            pods = [f"{name}-{index}" for index in range(live["spec"]["replicas"])]
            serving = [pod for pod in pods if pod in self.once_ready and pod not in self.leaving]
            if len(serving) == len(pods) and all(self.compat(self.all("Pod")[pod]) == compat for pod in pods):
                found.append(set(pods))
        return found

    def serving(self) -> bool:
        """Return whether some decode worker can answer now."""
        workers = [pod for pod in self.all("Pod").values() if objects.label(pod, ROLE_LABEL) == "decode"]
        return any(
            objects.name(pod) in self.once_ready and objects.name(pod) not in self.leaving and self.covered(pod)
            for pod in workers
        )

    def _holdings(self, pod: Manifest) -> list[Holding]:
        name, _, index = objects.name(pod).rpartition("-")
        owner = self.all("StatefulSet").get(name)
        shards = owner["spec"]["replicas"] if owner else 1
        each = EXPERTS // shards
        return [Holding(layer=layer, first=int(index) * each, count=each) for layer in LAYERS]

    def _run(self, pod: Manifest) -> None:
        """Let a pod start, and become ready once its peers are there."""
        name = objects.name(pod)
        if pod["spec"]["containers"][0]["image"] in self.bad_images:
            waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
            pod["status"] = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]}
            return
        if not self._mounts(pod):
            return
        pod["status"] = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
        self.ages[name] = self.ages.get(name, 0) + 1
        role = objects.label(pod, ROLE_LABEL)
        if self.ages[name] >= 2 and (role in ("experts", "gateway") or self.covered(pod)):
            self.once_ready.add(name)
        if name in self.once_ready:
            pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]

    def _mounts(self, pod: Manifest) -> bool:
        """Mount the pod's settings; they outlive their object. Without them no container starts."""
        volume = next(one for one in pod["spec"]["volumes"] if one["name"] == "settings")
        if "settings" not in pod and (found := self.all("ConfigMap").get(volume["configMap"]["name"])):
            pod["settings"] = found
            weights = json.loads(found["data"]["settings.json"]).get("weight_version")
            pod["compat"] = f"weights-{weights}" if weights else ""
        return "settings" in pod

    def _job(self, job: Manifest) -> None:
        if "status" in job:
            return
        pod = job["spec"]["template"]["spec"]
        if pod["containers"][0]["image"] in self.bad_images:
            return
        good = not pod["containers"][0]["args"][0].rpartition("/")[2].startswith("bad")
        job["status"] = {"conditions": [{"type": "Complete" if good else "Failed", "status": "True"}]}

    def collect(self) -> None:
        """Let pods go whose owner went."""
        sets, workloads = self.all("StatefulSet"), self.all("Deployment")
        for name, pod in list(self.all("Pod").items()):
            if pod["owner"] not in (sets if pod["in"] == "StatefulSet" else workloads):
                self._leave(name)

    def _stateful_set(self, live: Manifest) -> None:
        for index in range(live["spec"]["replicas"]):
            name = f"{objects.name(live)}-{index}"
            if name not in self.all("Pod"):
                self._start(name, live)

    def _deployment(self, live: Manifest) -> None:
        """Roll as Kubernetes does with maxSurge 1 and maxUnavailable 0; what is not ready goes first."""
        wanted = live["spec"]["replicas"]
        mine = [pod for pod in self.all("Pod").values() if pod["owner"] == objects.name(live)]
        mine = [pod for pod in mine if objects.name(pod) not in self.leaving]
        template = diff.digest(live["spec"]["template"])
        new, old = [p for p in mine if p["template"] == template], [p for p in mine if p["template"] != template]
        for pod in [pod for pod in old if objects.name(pod) not in self.once_ready]:
            self._leave(objects.name(pod))
            old.remove(pod)
        while len(new) > wanted:
            self._leave(objects.name(new.pop()))
        ready = sum(objects.name(pod) in self.once_ready for pod in [*new, *old])
        while old and ready > wanted:
            self._leave(objects.name(old.pop()))
            ready -= 1
        while len(new) < wanted and len(new) + len(old) < wanted + 1:
            self._count += 1
            new.append(self._start(f"{objects.name(live)}-{self._count}", live))
        available = sum(objects.name(pod) in self.once_ready for pod in [*new, *old])
        live["status"] = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": len(new) + len(old),
            "updatedReplicas": len(new),
            "availableReplicas": available,
        }

    def _start(self, name: str, owner: Manifest) -> Manifest:
        self._count += 1
        template = owner["spec"]["template"]
        pod: Manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{self._count}", "labels": {}},
            "spec": template["spec"],
            "owner": objects.name(owner),
            "in": owner["kind"],
            "template": diff.digest(template),
        }
        pod["metadata"]["labels"] = dict(template["metadata"]["labels"])
        self.all("Pod")[name] = pod
        return pod

    def _leave(self, name: str) -> None:
        pod = self.all("Pod")[name]
        if name not in self.leaving:
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.leaving[name] = self.drain_ticks if objects.running(pod) else 0

    def _forget(self, name: str) -> None:
        self.all("Pod").pop(name, None)
        self.once_ready.discard(name)
        self.ages.pop(name, None)
        self.leaving.pop(name, None)


def fields(wanted: Any) -> dict[str, Any]:
    """Return fieldsV1 of a manifest as if every list were atomic."""
    if not isinstance(wanted, dict):
        return {}
    return {f"f:{key}": fields(value) for key, value in wanted.items() if key not in ("apiVersion", "kind")}


def keys(found: Callable[[str], dict[str, Manifest]]) -> dict[str, set[str]]:
    """Return the names of what the operator wrote, by kind."""
    return {kind.kind: set(found(kind.kind)) for kind in (STATEFUL_SET, DEPLOYMENT, JOB)}


__all__ = ["GROUP_LABEL", "POD", "Cluster", "deployment", "keys", "kind_of", "manifest", "source"]
