"""Reads one deployment's children from the API server into a World."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from glm5_operator import objects
from glm5_operator.api import Api
from glm5_operator.kinds import CHILDREN, EVENT, JOB, POD, STATEFUL_SET, Manifest
from glm5_operator.names import DEPLOYMENT_LABEL
from glm5_operator.world import Refusal, World
from glm5_spec.admin import RoleState
from glm5_spec.resource import GLM5Deployment

States = Callable[[GLM5Deployment, list[Manifest]], Awaitable[Mapping[str, RoleState]]]
"""A deployment and its pods to the fresh answers of their processes, by pod name."""


async def observe(api: Api, deployment: GLM5Deployment, states: States) -> World:
    """Return the children of `deployment` as they are now; every kind is read from the API server, none remembered.

    Raises:
        Unreachable: the API server is away.
        Rejected: we may not read some kind.
    """
    metadata = deployment.metadata
    selector = f"{DEPLOYMENT_LABEL}={metadata.name}"
    lists = await asyncio.gather(*(api.list(kind, metadata.namespace, selector) for kind in CHILDREN))
    found = {kind.kind: _mine(kind.kind, items, metadata.uid) for kind, items in zip(CHILDREN, lists, strict=True)}
    refusals = await _refusals(api, metadata.namespace, found)
    answers = await states(deployment, list(found[POD.kind].values()))
    return World(found, answers, refusals, deleting=metadata.deletion_timestamp is not None)


def _mine(kind: str, items: Iterable[Manifest], uid: str) -> dict[str, Manifest]:
    """Return our children by name; an object without an owner, as an orphaned one, is taken over."""
    return {objects.name(one): one for one in items if kind == POD.kind or objects.controller_uid(one) in ("", uid)}


async def _refusals(api: Api, namespace: str, found: Mapping[str, Mapping[str, Manifest]]) -> tuple[Refusal, ...]:
    """Return what events say about pods that could not be made; asked for only where pods are missing."""
    lacking = [live for live in found[STATEFUL_SET.kind].values() if _lacks_pods(live)]
    lacking += [live for live in found[JOB.kind].values() if _is_idle(live)]
    answers = await asyncio.gather(*(_refused(api, namespace, live) for live in lacking))
    return tuple(one for one in answers if one is not None)


async def _refused(api: Api, namespace: str, live: Manifest) -> Refusal | None:
    fields = f"involvedObject.uid={live['metadata']['uid']},reason=FailedCreate"
    events = await api.list(EVENT, namespace, fields=fields)
    if not events:
        return None
    last = max(events, key=lambda event: str(event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]))
    return Refusal(objects.name(live), str(last.get("message", "")))


def _lacks_pods(live: Manifest) -> bool:
    return int((live.get("status") or {}).get("replicas") or 0) < int(live["spec"].get("replicas", 1))


def _is_idle(live: Manifest) -> bool:
    status = live.get("status") or {}
    return not status.get("active") and not status.get("conditions")
