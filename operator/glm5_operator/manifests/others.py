"""The rest: account, disruption budgets, scalers, placement."""

from collections.abc import Iterable

from glm5_operator import names
from glm5_operator.manifests import base
from glm5_operator.manifests.base import Manifest
from glm5_spec.resource import API_VERSION, GLM5Deployment, GLM5ExpertPlacement, GLM5RoleScaler, ShardPlacement
from glm5_spec.settings import RoleName


def service_account(deployment: GLM5Deployment) -> Manifest:
    """Return the account of the pods: no rights, no token."""
    meta = base.metadata(deployment, names.service_account(deployment.metadata.name))
    return base.manifest("v1", "ServiceAccount", meta, automountServiceAccountToken=False)


def disruption_budget(deployment: GLM5Deployment, role: RoleName) -> Manifest:
    """Return the budget of a role over all its revisions: one healthy pod at a time, sick ones at any."""
    name = deployment.metadata.name
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": names.selector(name, role)},
    }
    meta = base.metadata(deployment, names.disruption_budget(name, role), role)
    return base.manifest("policy/v1", "PodDisruptionBudget", meta, spec=spec)


def role_scaler(deployment: GLM5Deployment, role: RoleName, *, create: bool) -> Manifest:
    """Return the scaler of a role.

    Args:
        deployment: whose role.
        role: the role.
        create: True says how many there are at first; later the number is the scaler's users' and is left out.
    """
    name = deployment.metadata.name
    spec = {"deployment": name, "role": role}
    first = {"replicas": deployment.spec.role(role).initial_replicas} if create else {}
    meta = base.metadata(deployment, names.role_scaler(name, role), role)
    return base.manifest(API_VERSION, GLM5RoleScaler.KIND, meta, spec={**spec, **first})


def expert_placement(
    deployment: GLM5Deployment, epoch: int, summary: str, shards: Iterable[ShardPlacement]
) -> Manifest:
    """Return the table of which shard holds what."""
    meta = base.metadata(deployment, names.placement(deployment.metadata.name))
    table = [one.model_dump(mode="json", exclude_none=True) for one in shards]
    body = {"epoch": epoch, "summary": summary, "shards": table}
    return base.manifest(API_VERSION, GLM5ExpertPlacement.KIND, meta, **body)
