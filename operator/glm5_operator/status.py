"""The status of a deployment and of its scalers, made from a View; pure."""

from collections.abc import Sequence
from typing import Any

from glm5_operator import names, objects
from glm5_operator.conditions import CONDITIONS, Found
from glm5_operator.kinds import GLM5_DEPLOYMENT, ROLE_SCALER, Manifest
from glm5_operator.manifests.services import CLIENT_HTTP_PORT
from glm5_operator.names import REVISION_LABEL, ROLE_LABEL
from glm5_operator.plan_workers import workload
from glm5_operator.reasons import ConditionType, Reason
from glm5_operator.view import View
from glm5_spec.resource import ROLE_NAMES, Condition, DeploymentStatus
from glm5_spec.settings import RoleName


def status(view: View, now: str) -> DeploymentStatus:
    """Return the status; times of conditions that did not change are those of the last status.

    Args:
        view: what is known.
        now: the time (RFC 3339) for conditions that changed.
    """
    wanted = view.deployment
    before = wanted.status or DeploymentStatus()
    generation = wanted.metadata.generation
    conditions = with_times([condition(view) for condition in CONDITIONS], before.conditions, generation, now)
    name, namespace = names.client_service(wanted.metadata.name), wanted.metadata.namespace
    port = "" if CLIENT_HTTP_PORT == 80 else f":{CLIENT_HTTP_PORT}"
    return DeploymentStatus(
        observed_generation=generation,
        conditions=conditions,
        roles=view.roles,
        prefill=view.role("prefill").summary,
        decode=view.role("decode").summary,
        experts=view.coverage,
        model=wanted.spec.model.served_names[0],
        model_revision=_serving_revision(view, before.model_revision),
        url=f"http://{name}.{namespace}.svc{port}",
        accelerator=", ".join(sorted({wanted.spec.compute_role(role).accelerator.type for role in ROLE_NAMES[1:]})),
    )


def invalid(live: Manifest, message: str, now: str) -> dict[str, Any]:
    """Return the status of an object that this version of the operator cannot read; written under another CRD."""
    generation = int(live["metadata"].get("generation", 0))
    before = [Condition.model_validate(one) for one in (live.get("status") or {}).get("conditions") or []]
    found = Found(ConditionType.READY, "False", Reason.SPEC_INVALID, message)
    return {
        "observedGeneration": generation,
        "conditions": [
            one.model_dump(mode="json", by_alias=True) for one in with_times([found], before, generation, now)
        ],
    }


def with_times(found: Sequence[Found], before: Sequence[Condition], generation: int, now: str) -> list[Condition]:
    """Return conditions with the time at which their status last changed."""
    old = {one.type: one for one in before}
    return [_condition(one, old.get(one.type), generation, now) for one in found]


def patch(manifest_name: str, namespace: str, body: dict[str, Any]) -> Manifest:
    """Return what is applied to the status of a deployment."""
    metadata = {"name": manifest_name, "namespace": namespace}
    kind = GLM5_DEPLOYMENT
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": body}


def dump(wanted: DeploymentStatus) -> dict[str, Any]:
    """Return a status as JSON has it."""
    return wanted.model_dump(mode="json", by_alias=True, exclude_none=True)


def scaler_patches(view: View) -> list[Manifest]:
    """Return the statuses of role scalers that are not as they shall be."""
    patches = []
    for live in view.world.all(ROLE_SCALER).values():
        role: RoleName = objects.label(live, ROLE_LABEL)  # type: ignore[assignment]
        if role not in ROLE_NAMES:
            continue
        body = _scaler_status(view, role, live["metadata"].get("generation", 0))
        if live.get("status") != body:
            metadata = {"name": objects.name(live), "namespace": live["metadata"]["namespace"]}
            kind = ROLE_SCALER
            patches.append({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": body})
    return patches


def _scaler_status(view: View, role: RoleName, generation: int) -> dict[str, Any]:
    labels = names.selector(view.deployment.metadata.name, role)
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    live = workload(view.world, role)
    count = view.role(role).ready if live is None else int((live.get("status") or {}).get("replicas") or 0)
    return {"observedGeneration": generation, "replicas": count, "selector": selector}


def _condition(found: Found, before: Condition | None, generation: int, now: str) -> Condition:
    same = before is not None and before.status == found.status
    return Condition(
        type=found.type.value,
        status=found.status,
        reason=found.reason.value,
        message=found.message[:4096],
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before is not None and same else now,
    )


def _serving_revision(view: View, before: str) -> str:
    """Return the model revision that decode workers run: the wanted one once their roll is over."""
    live = workload(view.world, "decode")
    if live is None or not objects.rolled(live):
        return before
    same = objects.label(live["spec"]["template"], REVISION_LABEL) == view.role("decode").revision
    return view.deployment.spec.model.revision if same else before
