"""One pass over one deployment: read, plan, write, say. Level-triggered: nothing is remembered that matters."""

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from glm5_operator import events, metrics, objects, status
from glm5_operator.api import Api
from glm5_operator.errors import NotLeader, Rejected, Unreachable
from glm5_operator.executor import Executor
from glm5_operator.kinds import GLM5_DEPLOYMENT, Manifest
from glm5_operator.manifests import Environment
from glm5_operator.names import FIELD_MANAGER
from glm5_operator.observe import observe
from glm5_operator.plan import plan
from glm5_operator.poll import Poller
from glm5_operator.queue import Key, Retry
from glm5_operator.steps import Plan
from glm5_operator.tracing import span
from glm5_operator.view import View
from glm5_operator.world import World
from glm5_spec.resource import GLM5Deployment, faults, from_object

STATUS_MANAGER = f"{FIELD_MANAGER}-status"
STATUS_SECONDS = 1.0
"""The status of one deployment is written at most once in this time."""
AGAIN_SECONDS = 0.2
"""After writes the world is looked at again this soon."""
WAITING_SECONDS = 15.0
"""While something is waited for, the world is looked at this often even without news."""
log = logging.getLogger(__name__)


class Reconciler:
    """Does passes. Safe to be killed between any two writes, and to be done twice."""

    def __init__(
        self,
        api: Api,
        executor: Executor,
        poller: Poller,
        may_write: Callable[[], None],
        environment: Environment,
        resync_seconds: float,
    ) -> None:
        self._api = api
        self._executor = executor
        self._poller = poller
        self._may_write = may_write
        self._environment = environment
        self._resync_seconds = resync_seconds
        self._status_written: dict[Key, float] = {}

    async def __call__(self, key: Key) -> float | None:
        """Do one pass over the deployment `key`; return in how many seconds the next one is wanted.

        Raises:
            Retry: the pass could not be finished.
        """
        begun = time.monotonic()
        try:
            with span("pass", deployment="/".join(key)):
                again = await self._pass(key)
        except NotLeader:
            metrics.PASSES.labels(result="not leader").inc()
            return None  # whoever leads looks at everything, and so do we if we lead again
        except (Unreachable, Rejected) as error:
            metrics.PASSES.labels(result="failed").inc()
            log.warning("pass failed deployment=%s/%s error=%s", *key, error)
            raise Retry from error
        metrics.PASSES.labels(result="ok").inc()
        metrics.PASS_SECONDS.observe(time.monotonic() - begun)
        return again

    async def _pass(self, key: Key) -> float | None:
        live = await self._api.get(GLM5_DEPLOYMENT, *key)
        if live is None:
            self._forget(key)
            return None
        try:
            deployment = from_object(live)
        except ValidationError as error:
            await self._say_invalid(key, live, faults(error))
            return None
        world = await observe(self._api, deployment, self._poller.states)
        found = plan(deployment, world, self._environment)
        known = frozenset((kind, name) for kind, names in world.objects.items() for name in names)
        refused = await self._executor.run(found.steps, deployment.metadata.uid, known)
        late = await self._say(key, deployment, View(deployment, world, found, tuple(refused)))
        if refused:
            raise Retry
        return self._next(found, world, late)

    def _next(self, found: Plan, world: World, late: float) -> float | None:
        """Return when to look again if nothing happens."""
        if world.deleting:
            return None
        if found.steps:
            return AGAIN_SECONDS
        if late:
            return late
        # Spread, so that a hundred deployments do not come at once.
        spread = random.uniform(0.75, 1.25)
        return (WAITING_SECONDS if found.waits else self._resync_seconds) * spread

    async def _say(self, key: Key, deployment: GLM5Deployment, view: View) -> float:
        """Write events and status; return the seconds until a status that came too soon may be written."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await events.write(self._api, deployment, events.of_steps(view.plan.steps, view.refused), now)
        if view.world.deleting:
            return 0.0
        wanted = status.status(view, now)
        for condition in wanted.conditions:
            labels = {"namespace": key[0], "name": key[1], "type": condition.type}
            metrics.CONDITION.labels(**labels).set(condition.status == "True")
        if deployment.status != wanted:
            if late := self._too_soon(key):
                return late
            await self._write_status(key, status.dump(wanted))
            before = deployment.status.conditions if deployment.status else []
            await events.write(self._api, deployment, events.of_conditions(before, wanted.conditions), now)
        for patch in status.scaler_patches(view):
            self._may_write()
            await self._api.apply(patch, STATUS_MANAGER, "status")
        return 0.0

    async def _say_invalid(self, key: Key, live: Manifest, message: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = status.invalid(live, message, now)
        if (live.get("status") or {}).get("conditions") != body["conditions"] and not objects.terminating(live):
            await self._write_status(key, body)

    async def _write_status(self, key: Key, body: dict[str, Any]) -> None:
        self._may_write()
        try:
            await self._api.apply(status.patch(key[1], key[0], body), STATUS_MANAGER, "status")
        except Rejected as error:
            if error.status != 404:  # it went meanwhile
                raise
        self._status_written[key] = time.monotonic()
        metrics.STATUS_WRITES.inc()

    def _too_soon(self, key: Key) -> float:
        since = time.monotonic() - self._status_written.get(key, float("-inf"))
        return max(0.0, STATUS_SECONDS - since)

    def _forget(self, key: Key) -> None:
        self._poller.forget(key)
        self._status_written.pop(key, None)
        metrics.CONDITION.remove_by_labels({"namespace": key[0], "name": key[1]})
