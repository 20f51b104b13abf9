"""One function per condition: each says what is so and why, in a closed set of words, from a View alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from glm5_operator import objects
from glm5_operator.names import REVISION_LABEL
from glm5_operator.plan_workers import workload
from glm5_operator.reasons import ConditionType, Reason
from glm5_operator.shards import shard_sets
from glm5_operator.steps import Wait
from glm5_operator.trouble import Trouble, first_trouble, refusal, workload_refusal
from glm5_operator.view import View
from glm5_spec.settings import RoleName

Truth = Literal["True", "False", "Unknown"]
_PREPARING = (Reason.CHECKING, Reason.DOWNLOADING)
STUCK = frozenset(
    {
        Reason.DOWNLOAD_FAILED,
        Reason.CHECK_FAILED,
        Reason.IMAGE_PULL_FAILED,
        Reason.CRASH_LOOPING,
        Reason.CONTAINER_CONFIG_WRONG,
        Reason.INSUFFICIENT_CAPACITY,
        Reason.UNSCHEDULABLE,
        Reason.QUOTA_EXCEEDED,
        Reason.ADMISSION_REFUSED,
        Reason.APPLY_FAILED,
        Reason.NAME_TAKEN,
    }
)
"""Reasons that do not go away by waiting."""


@dataclass(frozen=True, slots=True)
class Found:
    """A condition without its times."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str = ""


def model_checked(view: View) -> Found:
    """Return whether the files of the model are there and whole."""
    wait = _model_wait(view)
    if wait is None:
        return Found(ConditionType.MODEL_CHECKED, "True", Reason.CHECKED, "glm5 check found no fault")
    status: Truth = "Unknown" if wait.reason in _PREPARING else "False"
    return Found(ConditionType.MODEL_CHECKED, status, wait.reason, wait.message)


def gateway_ready(view: View) -> Found:
    """Return whether the wanted gateways are ready."""
    return _role_ready(view, "gateway", ConditionType.GATEWAY_READY)


def prefill_ready(view: View) -> Found:
    """Return whether the wanted prefill workers are ready."""
    return _role_ready(view, "prefill", ConditionType.PREFILL_READY)


def decode_ready(view: View) -> Found:
    """Return whether the wanted decode workers are ready."""
    return _role_ready(view, "decode", ConditionType.DECODE_READY)


def experts_ready(view: View) -> Found:
    """Return whether every shard of every wanted group serves."""
    return _role_ready(view, "experts", ConditionType.EXPERTS_READY)


def experts_covered(view: View) -> Found:
    """Return whether some ready shard holds each expert of each layer."""
    kind, found = ConditionType.EXPERTS_COVERED, view.coverage
    if view.role("experts").desired == 0:
        return Found(kind, "False", Reason.SCALED_TO_ZERO, "experts.replicas is 0")
    if not found.total:
        return Found(kind, "Unknown", Reason.NOT_OBSERVED, "not all shards of a group have answered yet")
    if found.covered < found.total:
        return Found(kind, "False", Reason.EXPERTS_MISSING, f"{found.summary} experts of a layer are on ready shards")
    return Found(kind, "True", Reason.COVERED, f"{found.summary} experts of each layer are on ready shards")


def serving(view: View) -> Found:
    """Return whether clients get answers now, as the gateways see it."""
    kind = ConditionType.SERVING
    roles: tuple[RoleName, ...] = ("gateway", "decode", "experts")
    for role in roles:
        if view.role(role).desired == 0 and view.role(role).ready == 0:
            return Found(kind, "False", Reason.SCALED_TO_ZERO, f"{role}.replicas is 0")
    gateways = [state for state in view.states("gateway") if state.ready and not state.draining]
    if any(state.covered for state in gateways):
        return Found(kind, "True", Reason.ANSWERING)
    if gateways:
        return _why_not_serving(view, gateways[0].missing)
    if any(objects.ready(pod) for pod in view.pods("gateway")):
        return Found(kind, "Unknown", Reason.NOT_OBSERVED, "the gateways do not answer the operator")
    return Found(kind, "False", Reason.NO_GATEWAY, "no gateway is ready")


def progressing(view: View) -> Found:
    """Return whether the operator is on its way to the spec; False when it arrived or cannot go on."""
    kind = ConditionType.PROGRESSING
    waits = [*view.refused, *_worst_first(view)]
    if waits:
        wait = waits[0]
        going: Truth = "False" if wait.reason in STUCK or wait.reason is Reason.PAUSED else "True"
        return Found(kind, going, wait.reason, wait.message)
    if view.plan.steps:
        return Found(kind, "True", Reason.CREATING, f"{len(view.plan.steps)} objects were written")
    starting = [one for one in _roles(view) if one.status != "True"]
    if starting:
        going = "False" if starting[0].reason in STUCK else "True"
        return Found(kind, going, starting[0].reason, starting[0].message)
    return Found(kind, "False", Reason.SETTLED, "")


def ready(view: View) -> Found:
    """Return whether everything is as the spec says."""
    kind = ConditionType.READY
    for other in (model_checked(view), progressing(view), *_roles(view), experts_covered(view)):
        fine = other.reason in (Reason.SETTLED, Reason.SCALED_TO_ZERO)
        if not fine and (other.type is ConditionType.PROGRESSING or other.status != "True"):
            status: Truth = "Unknown" if other.status == "Unknown" else "False"
            return Found(kind, status, other.reason, other.message)
    return Found(kind, "True", Reason.AS_SPECIFIED, "")


CONDITIONS: tuple[Callable[[View], Found], ...] = (
    ready,
    serving,
    progressing,
    model_checked,
    gateway_ready,
    prefill_ready,
    decode_ready,
    experts_ready,
    experts_covered,
)


def _roles(view: View) -> list[Found]:
    return [gateway_ready(view), prefill_ready(view), decode_ready(view), experts_ready(view)]


def _role_ready(view: View, role: RoleName, kind: ConditionType) -> Found:
    counts = view.role(role)
    if counts.desired == 0:
        return Found(kind, "True", Reason.SCALED_TO_ZERO, f"{role}.replicas is 0")
    if counts.ready >= counts.desired and counts.updated >= counts.desired:
        return Found(kind, "True", Reason.PODS_READY, f"{counts.summary} are ready")
    reason, message = _role_trouble(view, role) or (Reason.PODS_STARTING, "")
    return Found(
        kind, "False", reason, message or f"{counts.summary} are ready, {counts.updated} of the wanted revision"
    )


def _role_trouble(view: View, role: RoleName) -> Trouble | None:
    pods = view.pods(role)
    wanted = view.role(role).revision
    # A new pod's trouble explains a stuck roll; an old one's is second.
    new = [pod for pod in pods if objects.label(pod, REVISION_LABEL) == wanted]
    if trouble := first_trouble(new) or first_trouble(pods):
        return _of_capacity(trouble, rolling=len(new) < len(pods))
    live = workload(view.world, role)
    if live is not None and (trouble := workload_refusal(live)):
        return trouble
    if role == "experts":
        refusals = (refusal(view.world, one.name) for one in shard_sets(view.world))
        return next((found for found in refusals if found), None)
    return None


def _of_capacity(trouble: Trouble, *, rolling: bool) -> Trouble:
    """Say that the new does not fit beside the old where that is so."""
    if rolling and trouble[0] is Reason.UNSCHEDULABLE:
        return Reason.INSUFFICIENT_CAPACITY, f"the new pods do not fit beside the old ones: {trouble[1]}"
    return trouble


def _worst_first(view: View) -> list[Wait]:
    """Return what the planner waits for; what will not go away by waiting comes first."""
    waits = list(view.plan.waits)
    if any(wait.reason in (Reason.ROLLING_OUT, Reason.AWAITING_SHARDS) for wait in waits):
        waits += [Wait(one.reason, one.message) for one in _roles(view) if one.reason in STUCK]
    return sorted(waits, key=lambda wait: wait.reason not in STUCK)


def _model_wait(view: View) -> Wait | None:
    """Return what the gate waits for: while it does, it is the planner's first wait."""
    return next((wait for wait in view.plan.waits if wait.model), None)


def _why_not_serving(view: View, missing: str) -> Found:
    kind = ConditionType.SERVING
    if not any(state.ready and not state.draining for state in view.states("decode")):
        return Found(kind, "False", Reason.NO_DECODE_WORKER, missing or "no decode worker is ready")
    return Found(kind, "False", Reason.EXPERTS_MISSING, missing or "no decode worker reaches every expert")
