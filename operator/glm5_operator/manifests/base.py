"""What every manifest has: identity, labels, owner; and what pods of every role share."""

from dataclasses import dataclass
from typing import Any

from glm5_operator import names
from glm5_spec.resource import GLM5Deployment, reference
from glm5_spec.settings import RoleName

Manifest = dict[str, Any]

HTTP_PORT = 8000
GRPC_PORT = 9000
ADMIN_PORT = 9100
SETTINGS_FOLDER = "/etc/glm5"
SETTINGS_FILE = "settings.json"
KEYS_FOLDER = "/etc/glm5-keys"
KEYS_FILE = "keys"
MODEL_FOLDER = "/model"


@dataclass(frozen=True, slots=True)
class Environment:
    """What the operator knows about its cluster and itself."""

    operator_namespace: str = "glm5-system"
    """Namespace of the operator's pods, which ask `/v1/state`."""
    metrics_namespaces: tuple[str, ...] = ()
    """Namespaces whose pods may read metrics."""


def manifest(api_version: str, kind: str, metadata: Manifest, **body: Any) -> Manifest:
    """Return an object."""
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def metadata(
    deployment: GLM5Deployment,
    name: str,
    role: RoleName | None = None,
    revision: str = "",
    group: int | None = None,
    extra: dict[str, str] | None = None,
) -> Manifest:
    """Return name, namespace, labels and owner of a child."""
    ours = names.labels(deployment.metadata.name, role, revision, group)
    return {
        "name": name,
        "namespace": deployment.metadata.namespace,
        "labels": {**deployment.spec.labels, **ours, **(extra or {})},
        "ownerReferences": [reference(deployment.KIND, deployment.metadata)],
    }
