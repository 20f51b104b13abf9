"""The planner: from what is wanted and what was observed to the steps that are safe now. Pure.

The order of a roll: download and check of the model, new shards, prefill and decode together, gateways, and the old
shards when nobody routes to them any more. Every part looks at the world alone, so it does not matter where an earlier
pass was interrupted, or by what.
"""

from glm5_operator import history, manifests, objects
from glm5_operator.draft import Draft
from glm5_operator.history import Template
from glm5_operator.kinds import (
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    ROLE_SCALER,
    SERVICE,
    SERVICE_ACCOUNT,
)
from glm5_operator.manifests import Environment
from glm5_operator.placement import plan_placement
from glm5_operator.plan_experts import plan_experts
from glm5_operator.plan_model import plan_model
from glm5_operator.plan_workers import plan_workers
from glm5_operator.reasons import Reason
from glm5_operator.scale import plan_scalers
from glm5_operator.steps import Plan
from glm5_operator.world import World
from glm5_spec.resource import ROLE_NAMES, GLM5Deployment
from glm5_spec.settings import RoleName

_PRUNED = (SERVICE_ACCOUNT, SERVICE, DISRUPTION_BUDGET, NETWORK_POLICY, ROLE_SCALER)


def plan(deployment: GLM5Deployment, world: World, environment: Environment) -> Plan:
    """Return what to do next for `deployment`; no step at all while it is being deleted."""
    if world.deleting:
        return Plan()
    draft = Draft(deployment, world, environment)
    for manifest in manifests.fixtures(deployment, environment):
        draft.want(manifest)
    plan_scalers(draft)
    checked = plan_model(draft)
    begins = checked and not deployment.spec.paused
    wanted = {role: history.target(deployment, world, role) for role in ROLE_NAMES}
    _plan_history(draft, wanted, begins)
    may_roll = plan_experts(draft, wanted["experts"], begins)
    plan_workers(draft, wanted, begins, may_roll)
    plan_placement(draft)
    if checked and deployment.spec.paused:
        _say_paused(draft, wanted)
    _prune(draft, wanted)
    return draft.plan()


def _plan_history(draft: Draft, wanted: dict[RoleName, Template], begins: bool) -> None:
    """Ask for the stored templates in use; a new one is stored when its roll begins, not before."""
    for role in ROLE_NAMES:
        used = history.in_use(draft.world, role)
        for template in history.stored(draft.world, role).values():
            if template.revision in used or template.revision == wanted[role].revision:
                history.keep(draft, template)
        if begins and not wanted[role].exists:
            history.keep(draft, wanted[role])


def _say_paused(draft: Draft, wanted: dict[RoleName, Template]) -> None:
    waiting = [role for role in ROLE_NAMES if history.in_use(draft.world, role) != {wanted[role].revision}]
    if waiting:
        draft.wait(Reason.PAUSED, f"{', '.join(waiting)} would roll; set spec.paused to false to go on")


def _prune(draft: Draft, wanted: dict[RoleName, Template]) -> None:
    """Drop what earlier specs needed, once there is nothing else to do."""
    for kind in _PRUNED:
        for name, live in draft.world.all(kind).items():
            if (kind.kind, name) not in draft.wanted and objects.controller_uid(live) == draft.deployment.metadata.uid:
                draft.drop(kind, live, "the spec does not ask for it any more")
    if draft.settled:
        for role in ROLE_NAMES:
            history.prune(draft, role, wanted[role].revision)
