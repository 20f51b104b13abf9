"""Readers of raw objects: labels, owners, readiness. Pure; every function takes what the API server sent."""

from typing import Any

from glm5_operator.kinds import Manifest


def name(obj: Manifest) -> str:
    """Return the name."""
    return str(obj["metadata"]["name"])


def label(obj: Manifest, key: str) -> str:
    """Return the value of a label; empty if it is not there."""
    return str((obj["metadata"].get("labels") or {}).get(key, ""))


def annotation(obj: Manifest, key: str) -> str:
    """Return the value of an annotation; empty if it is not there."""
    return str((obj["metadata"].get("annotations") or {}).get(key, ""))


def terminating(obj: Manifest) -> bool:
    """Return whether the object is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def controller_uid(obj: Manifest) -> str:
    """Return the uid of the controlling owner; empty if there is none."""
    owners = obj["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def condition(obj: Manifest, kind: str) -> dict[str, Any]:
    """Return the condition of type `kind`; empty if it is not there."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((dict(one) for one in conditions if one["type"] == kind), {})


def is_true(obj: Manifest, kind: str) -> bool:
    """Return whether the condition of type `kind` is True."""
    return condition(obj, kind).get("status") == "True"


def finished(pod: Manifest) -> bool:
    """Return whether the pod has ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def containers(pod: Manifest) -> list[dict[str, Any]]:
    """Return the statuses of init containers and containers."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def running(pod: Manifest) -> bool:
    """Return whether a process of the pod may be running."""
    if finished(pod):
        return False
    return any("running" in (one.get("state") or {}) for one in containers(pod))


def ready(pod: Manifest) -> bool:
    """Return whether the pod is ready and stays."""
    return is_true(pod, "Ready") and not terminating(pod)


def rolled(workload: Manifest) -> bool:
    """Return whether a Deployment runs its template alone, all replicas available."""
    status = workload.get("status") or {}
    wanted = workload["spec"].get("replicas", 1)
    counts = [int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    current = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 1)
    return bool(current) and counts == [wanted] * 3
