"""How many replicas a role shall have: the spec's number, or that of the role's scaler."""

from glm5_operator import manifests, names, objects
from glm5_operator.draft import Draft
from glm5_operator.kinds import ROLE_SCALER
from glm5_operator.names import ROLE_LABEL
from glm5_operator.world import World
from glm5_spec.resource import ROLE_NAMES, GLM5Deployment
from glm5_spec.settings import RoleName


def replicas(deployment: GLM5Deployment, world: World, role: RoleName) -> int:
    """Return the number in force; a scaler's number is held within the bounds of the spec."""
    section = deployment.spec.role(role)
    if section.scaling is None:
        return section.initial_replicas
    for live in world.all(ROLE_SCALER).values():
        if objects.label(live, ROLE_LABEL) == role:
            asked = live["spec"].get("replicas")
            return section.clamp(section.initial_replicas if asked is None else int(asked))
    return section.initial_replicas


def plan_scalers(draft: Draft) -> None:
    """Ask for a scaler for each role with `scaling`; its number is written once and then belongs to others."""
    for role in ROLE_NAMES:
        if draft.deployment.spec.role(role).scaling is None:
            continue
        draft.create(manifests.role_scaler(draft.deployment, role, create=True))
        if draft.world.get(ROLE_SCALER, names.role_scaler(draft.deployment.metadata.name, role)) is not None:
            draft.want(manifests.role_scaler(draft.deployment, role, create=False))
