"""The pod template of a role: what is stored for each revision."""

from typing import Any

from glm5_operator import names
from glm5_operator.manifests import accelerators, base, security
from glm5_operator.manifests.container import PRE_STOP_SECONDS, accelerator, container
from glm5_spec.resource import GLM5Deployment
from glm5_spec.resource.pods import Toleration
from glm5_spec.resource.roles import Role
from glm5_spec.settings import RoleName

SLACK_SECONDS = 30
"""After `drainSeconds` a pod closes what is left and hands it over; then the kubelet kills it."""


def template(deployment: GLM5Deployment, role: RoleName, revision: str, settings_name: str) -> dict[str, Any]:
    """Return the pod template; nothing in it depends on counts, so scaling restarts nobody."""
    section = deployment.spec.role(role)
    ours = names.labels(deployment.metadata.name, role, revision)
    volcano = accelerators.volcano_labels(accelerator(deployment, role), section.placement.scheduler_name)
    metadata: dict[str, Any] = {"labels": {**deployment.spec.labels, **section.pod.labels, **volcano, **ours}}
    if section.pod.annotations:
        metadata["annotations"] = dict(section.pod.annotations)
    return {"metadata": metadata, "spec": _pod(deployment, role, revision, settings_name)}


def common(deployment: GLM5Deployment) -> dict[str, Any]:
    """Return what every pod of the deployment has, those of Jobs too."""
    found: dict[str, Any] = {
        "serviceAccountName": names.service_account(deployment.metadata.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": dict(security.POD),
    }
    if deployment.spec.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": one.name} for one in deployment.spec.image_pull_secrets]
    return found


def placed(section: Role) -> dict[str, Any]:
    """Return where the pods of a role may run, as far as the user said."""
    placement = section.placement
    found = {
        "nodeSelector": dict(placement.node_selector),
        "tolerations": [_toleration(one) for one in placement.tolerations],
        "schedulerName": placement.scheduler_name,
        "priorityClassName": placement.priority_class_name,
    }
    return {key: value for key, value in found.items() if value}


def model_volume(deployment: GLM5Deployment, *, read_only: bool = True) -> dict[str, Any]:
    """Return the volume with the checkpoint."""
    claim = {"claimName": deployment.spec.model.source.claim, "readOnly": read_only}
    return {"name": "model", "persistentVolumeClaim": claim}


def _pod(deployment: GLM5Deployment, role: RoleName, revision: str, settings_name: str) -> dict[str, Any]:
    section, device = deployment.spec.role(role), accelerator(deployment, role)
    grace = section.drain_seconds + SLACK_SECONDS + (PRE_STOP_SECONDS if role == "gateway" else 0)
    found = {
        **common(deployment),
        **placed(section),
        "terminationGracePeriodSeconds": grace,
        "topologySpreadConstraints": _spread(deployment, role, revision),
        "containers": [container(deployment, role)],
        "volumes": _volumes(deployment, role, settings_name),
    }
    if selected := {**accelerators.node_labels(device), **section.placement.node_selector}:
        found["nodeSelector"] = selected
    if device.runtime_class_name:
        found["runtimeClassName"] = device.runtime_class_name
    return {key: value for key, value in found.items() if value != []}


def _spread(deployment: GLM5Deployment, role: RoleName, revision: str) -> list[dict[str, Any]]:
    """Return how pods of one revision are spread: those of the old one, which go, do not count."""
    ours = {**names.selector(deployment.metadata.name, role), names.REVISION_LABEL: revision}
    return [
        {
            "topologyKey": one.topology_key,
            "maxSkew": one.max_skew,
            "whenUnsatisfiable": one.when_unsatisfiable,
            "labelSelector": {"matchLabels": ours},
        }
        for one in deployment.spec.role(role).placement.spread
    ]


def _volumes(deployment: GLM5Deployment, role: RoleName, settings_name: str) -> list[dict[str, Any]]:
    section = deployment.spec.role(role)
    found: list[dict[str, Any]] = [
        {"name": "settings", "configMap": {"name": settings_name}},
        model_volume(deployment),
        {"name": "tmp", "emptyDir": {}},
    ]
    keys = deployment.spec.gateway.api_keys
    if role == "gateway" and keys:
        items = [{"key": keys.key, "path": base.KEYS_FILE}]
        found.append({"name": "keys", "secret": {"secretName": keys.name, "items": items}})
    if section.pod.shared_memory is not None:
        memory = {"medium": "Memory", "sizeLimit": str(section.pod.shared_memory)}
        found.append({"name": "shared-memory", "emptyDir": memory})
    return found + accelerators.driver_volumes(accelerator(deployment, role))


def _toleration(one: Toleration) -> dict[str, Any]:
    return one.model_dump(mode="json", exclude_none=True)
