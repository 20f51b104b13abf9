"""The container of a role."""

from typing import Any

from glm5_operator import names
from glm5_operator.manifests import accelerators, base, security
from glm5_spec.resource import GLM5Deployment
from glm5_spec.resource.pods import Accelerator
from glm5_spec.resource.roles import ComputeRole
from glm5_spec.settings import RoleName

PRE_STOP_SECONDS = 5
"""A gateway that goes is still sent new connections for so long: endpoints reach every node with a delay."""
_START_PERIOD_SECONDS = 2
_START_FAILURES = 1800  # an hour: 800 GB over a slow network
_PORTS = {"http": base.HTTP_PORT, "grpc": base.GRPC_PORT, "admin": base.ADMIN_PORT}


def container(deployment: GLM5Deployment, role: RoleName) -> dict[str, Any]:
    """Return the container of the pods of a role."""
    spec = deployment.spec
    found = {
        "name": role,
        "image": spec.images.gateway if role == "gateway" else spec.images.runtime,
        "imagePullPolicy": spec.images.pull_policy,
        "command": ["python3", "-m", f"glm5_{role}"],
        "args": ["--settings", f"{base.SETTINGS_FOLDER}/{base.SETTINGS_FILE}"],
        "env": _env(deployment, role),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in _ports(role).items()],
        "resources": _resources(deployment, role),
        "volumeMounts": _mounts(deployment, role),
        "startupProbe": _probe("/startupz", _START_PERIOD_SECONDS, _START_FAILURES),
        "readinessProbe": _probe("/readyz", 2, 3),
        "livenessProbe": _probe("/livez", 10, 3),
        # The last line of a process that cannot start says why; conditions quote it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security.CONTAINER,
    }
    if role == "gateway":
        found["lifecycle"] = {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}}
    return found


def accelerator(deployment: GLM5Deployment, role: RoleName) -> Accelerator:
    """Return what the pods of a role compute on; gateways have none."""
    section = deployment.spec.role(role)
    return section.accelerator if isinstance(section, ComputeRole) else Accelerator()


def _ports(role: RoleName) -> dict[str, int]:
    return {name: port for name, port in _PORTS.items() if name != "http" or role == "gateway"}


def _env(deployment: GLM5Deployment, role: RoleName) -> list[dict[str, Any]]:
    """Return what only the pod knows, then what the user adds."""
    section = deployment.spec.role(role)
    fields = {"GLM5_NAME": "metadata.name", "GLM5_HOST": "status.podIP"}
    if role == "experts":
        fields["GLM5_SHARD"] = "metadata.labels['apps.kubernetes.io/pod-index']"
        fields["GLM5_GROUP"] = f"metadata.labels['{names.GROUP_LABEL}']"
    ours = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    devices = accelerators.volcano_env(accelerator(deployment, role), section.placement.scheduler_name)
    theirs = [{"name": one.name, "value": one.value} for one in section.pod.env]
    by_name: dict[str, dict[str, Any]] = {str(one["name"]): one for one in [*ours, *devices, *theirs]}
    return list(by_name.values())  # a variable that is set twice is refused; the user's word holds


def _resources(deployment: GLM5Deployment, role: RoleName) -> dict[str, Any]:
    """Return requests and limits; devices are in both, since they cannot be overcommitted."""
    resources = deployment.spec.role(role).resources
    devices = accelerators.devices(accelerator(deployment, role))
    found = {"requests": {**resources.requests, **devices}, "limits": {**resources.limits, **devices}}
    return {key: {name: str(value) for name, value in amounts.items()} for key, amounts in found.items() if amounts}


def _mounts(deployment: GLM5Deployment, role: RoleName) -> list[dict[str, Any]]:
    section = deployment.spec.role(role)
    found: list[dict[str, Any]] = [
        {"name": "settings", "mountPath": base.SETTINGS_FOLDER, "readOnly": True},
        {"name": "model", "mountPath": base.MODEL_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if role == "gateway" and deployment.spec.gateway.api_keys:
        found.append({"name": "keys", "mountPath": base.KEYS_FOLDER, "readOnly": True})
    if section.pod.shared_memory is not None:
        found.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    return found + accelerators.driver_mounts(accelerator(deployment, role))


def _probe(path: str, period_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "admin", "scheme": "HTTP"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
