"""Labels and the names of children. Pure; nothing of this may change once released, or running pods lose their owner.

The longest name is that of a StatefulSet: 52 characters, since Kubernetes adds 11 for a label of its pods, and a
deployment's name has 32 at most.
"""

from glm5_spec.resource import GROUP
from glm5_spec.settings import RoleName

FIELD_MANAGER = "glm5-operator"
"""Who owns the fields that we apply."""
DEPLOYMENT_LABEL = f"{GROUP}/deployment"
"""Name of the GLM5Deployment; on everything that belongs to it, so watches select by it."""
ROLE_LABEL = f"{GROUP}/role"
"""Role of a pod, and of what belongs to one role."""
REVISION_LABEL = f"{GROUP}/revision"
"""Role revision of a pod, of shard sets, ControllerRevisions and settings."""
GROUP_LABEL = f"{GROUP}/group"
"""Number of the group, on shards and their StatefulSets."""
JOB_LABEL = f"{GROUP}/job"
"""What a Job and its pod do: check or download."""

_SHOWN = 8
"""Digits of a revision that fit in names."""


def selector(name: str, role: RoleName | None = None) -> dict[str, str]:
    """Return the labels that select what belongs to deployment `name`, or to one role of it."""
    return {DEPLOYMENT_LABEL: name} | ({ROLE_LABEL: role} if role else {})


def labels(name: str, role: RoleName | None = None, revision: str = "", group: int | None = None) -> dict[str, str]:
    """Return our labels of an object of deployment `name`."""
    found = {
        "app.kubernetes.io/name": "glm5",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        **selector(name, role),
    }
    if role:
        found["app.kubernetes.io/component"] = role
    if revision:
        found[REVISION_LABEL] = revision
    if group is not None:
        found[GROUP_LABEL] = str(group)
    return found


def deployment(name: str, role: RoleName) -> str:
    """Return the name of the Deployment of gateway, prefill or decode."""
    return f"{name}-{role}"


def stateful_set(name: str, group: int, revision: str) -> str:
    """Return the name of the StatefulSet of one group in one revision (52 characters at most)."""
    return f"{name}-experts-{group}-{revision[:_SHOWN]}"


def client_service(name: str) -> str:
    """Return the name of the Service for clients."""
    return name


def headless_service(name: str, role: RoleName) -> str:
    """Return the name of the Service by which peers find the pods of a role."""
    return f"{name}-{role}"


def settings_map(name: str, role: RoleName, content: str) -> str:
    """Return the name of the ConfigMap whose data has the hash `content`."""
    return f"{name}-{role}-{content[:_SHOWN]}"


def controller_revision(name: str, role: RoleName, revision: str) -> str:
    """Return the name of the stored template of a role revision."""
    return f"{name}-{role}-{revision}"


def job(name: str, what: str, key: str) -> str:
    """Return the name of the Job that does `what` (check or download) for the inputs with hash `key`."""
    return f"{name}-{what}-{key}"


def disruption_budget(name: str, role: RoleName) -> str:
    """Return the name of the PodDisruptionBudget of a role."""
    return f"{name}-{role}"


def network_policy(name: str, role: str) -> str:
    """Return the name of the NetworkPolicy of a role, or of `check` and `download`."""
    return f"{name}-{role}"


def service_account(name: str) -> str:
    """Return the name of the account of the pods, which has no rights and no token."""
    return name


def role_scaler(name: str, role: RoleName) -> str:
    """Return the name of the GLM5RoleScaler of a role."""
    return f"{name}-{role}"


def placement(name: str) -> str:
    """Return the name of the GLM5ExpertPlacement."""
    return name
