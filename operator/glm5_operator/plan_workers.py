"""Prefill, decode and gateway: one Deployment each, whose template changes when the tier below is ready for it."""

from glm5_operator import history, manifests, objects
from glm5_operator.draft import Draft
from glm5_operator.history import Template
from glm5_operator.kinds import DEPLOYMENT, Manifest
from glm5_operator.names import REVISION_LABEL, ROLE_LABEL
from glm5_operator.reasons import Reason
from glm5_operator.revision import role_revision
from glm5_operator.scale import replicas
from glm5_operator.shards import ATTENTION
from glm5_operator.world import World
from glm5_spec.settings import RoleName

WORKERS: tuple[RoleName, ...] = ("prefill", "decode", "gateway")


def plan_workers(draft: Draft, wanted: dict[RoleName, Template], may_begin: bool, may_roll: bool) -> None:
    """Ask for the three Deployments.

    Args:
        draft: the plan so far.
        wanted: the templates that the spec asks for.
        may_begin: the model was checked and nothing is paused: what does not exist yet may be made.
        may_roll: also, the shards are ready for workers of the wanted templates.
    """
    for role in WORKERS:
        live = workload(draft.world, role)
        template = _template(draft, role, wanted[role], live, may_begin, may_roll)
        if live is not None:
            draft.keep(DEPLOYMENT, objects.name(live))
        if template is None:
            continue
        count = replicas(draft.deployment, draft.world, role)
        manifest = manifests.deployment(draft.deployment, role, template.pod, count)
        draft.want(manifest, "roll" if live is not None and template.revision != _revision(live) else "")
        if live is not None and not objects.rolled(live):
            draft.wait(*_pace(live))


def workload(world: World, role: RoleName) -> Manifest | None:
    """Return the Deployment of `role`; None if it does not exist."""
    found = (live for live in world.all(DEPLOYMENT).values() if objects.label(live, ROLE_LABEL) == role)
    return next(found, None)


def _template(
    draft: Draft, role: RoleName, wanted: Template, live: Manifest | None, may_begin: bool, may_roll: bool
) -> Template | None:
    """Return what the Deployment's pods shall be made from now; None to leave it alone."""
    if live is None:
        # Pods of a role that was there are brought back as they were; the first ones are of the wanted template.
        return wanted if may_begin else history.before(draft.world, role, wanted.revision) or _known(draft, wanted)
    if _revision(live) == wanted.revision or (may_begin and may_roll and _turn(draft, role)):
        return wanted
    return history.stored(draft.world, role).get(_revision(live))


def _known(draft: Draft, wanted: Template) -> Template | None:
    return history.stored(draft.world, wanted.role).get(wanted.revision)


def _turn(draft: Draft, role: RoleName) -> bool:
    """Return whether the role may roll now: gateways come last, after both kinds of attention worker."""
    if role in ATTENTION:
        return True
    behind = [one for one in ATTENTION if _behind(draft, one)]
    if behind:
        draft.wait(Reason.ROLLING_OUT, f"gateways roll after {' and '.join(behind)}")
    return not behind


def _behind(draft: Draft, role: RoleName) -> bool:
    live = workload(draft.world, role)
    return live is None or _revision(live) != role_revision(draft.deployment, role) or not objects.rolled(live)


def _pace(live: Manifest) -> tuple[Reason, str]:
    """Say how far a Deployment is."""
    status = live.get("status") or {}
    wanted = live["spec"].get("replicas", 1)
    updated, available = status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0
    text = f"{objects.name(live)}: {updated} of {wanted} are of the wanted revision, {available} are available"
    return Reason.ROLLING_OUT, text


def _revision(live: Manifest) -> str:
    return objects.label(live["spec"]["template"], REVISION_LABEL)
