"""Does the planner's steps, one write at a time; before each it asks whether we may still write."""

import logging
from collections.abc import Callable, Sequence

from glm5_operator import metrics, objects
from glm5_operator.api import Api
from glm5_operator.errors import OperatorError, Rejected
from glm5_operator.failpoint import Failpoint
from glm5_operator.kinds import Manifest, kind_of
from glm5_operator.names import FIELD_MANAGER
from glm5_operator.reasons import Reason
from glm5_operator.steps import Apply, Create, Delete, Step, Wait
from glm5_operator.tracing import span

CREATOR = f"{FIELD_MANAGER}-create"
"""Field manager of what is made once and then belongs to others."""
log = logging.getLogger(__name__)


class NameTaken(OperatorError):
    """An object of the name that we need belongs to somebody else."""


class Executor:
    """Writes the children of deployments."""

    def __init__(self, api: Api, may_write: Callable[[], None], failpoint: Failpoint | None = None) -> None:
        """Take the client and a check that raises NotLeader when the lease is not ours."""
        self._api = api
        self._may_write = may_write
        self._failpoint = failpoint or Failpoint()

    async def run(self, steps: Sequence[Step], owner: str, known: frozenset[tuple[str, str]]) -> list[Wait]:
        """Do the steps; return what was refused. A refused write ends the pass before the first removal.

        Args:
            steps: from the planner.
            owner: uid of the deployment.
            known: (kind, name) of the children that the planner saw.

        Raises:
            Unreachable: the API server is away; what was done stays done.
            NotLeader: the lease was lost.
        """
        refused: list[Wait] = []
        for step in steps:
            if isinstance(step, Delete) and refused:
                break  # what goes may be what we have instead of what was refused
            try:
                await self._do(step, owner, known)
            except Rejected as error:
                refused.append(Wait(Reason.APPLY_FAILED, f"{_text(step)}: {error}"))
            except NameTaken as error:
                refused.append(Wait(Reason.NAME_TAKEN, str(error)))
        for one in refused:
            log.warning("write refused reason=%s message=%s", one.reason, one.message)
        return refused

    async def _do(self, step: Step, owner: str, known: frozenset[tuple[str, str]]) -> None:
        kind = step.kind if isinstance(step, Delete) else kind_of(step.manifest)
        with span("write", step=_text(step)):
            if isinstance(step, Delete):
                self._may_write()
                await self._api.delete(step.kind, step.namespace, step.name, step.uid)
            elif isinstance(step, Create):
                await self._create(step, owner)
            else:
                await self._apply(step, owner, known)
        metrics.WRITES.labels(kind=kind.kind, why=step.why if isinstance(step, Apply) else type(step).__name__).inc()
        log.info("wrote %s why=%s", _text(step), step.why)
        self._failpoint.wrote()

    async def _apply(self, step: Apply, owner: str, known: frozenset[tuple[str, str]]) -> None:
        if (step.manifest["kind"], objects.name(step.manifest)) not in known:
            await self._refuse_foreign(step.manifest, owner)
        self._may_write()
        await self._api.apply(step.manifest, FIELD_MANAGER)

    async def _create(self, step: Create, owner: str) -> None:
        await self._refuse_foreign(step.manifest, owner)
        self._may_write()
        try:
            await self._api.create(step.manifest, CREATOR)
        except Rejected as error:
            if error.status != 409:
                raise

    async def _refuse_foreign(self, manifest: Manifest, owner: str) -> None:
        """Raise NameTaken if an object of this name exists and is not a child of `owner`."""
        kind, name = kind_of(manifest), objects.name(manifest)
        live = await self._api.get(kind, manifest["metadata"]["namespace"], name)
        if live is not None and objects.controller_uid(live) != owner:
            raise NameTaken(f"{kind.kind} {name} exists and is not ours; delete it or rename the deployment")


def _text(step: Step) -> str:
    if isinstance(step, Delete):
        return f"delete {step.kind.kind} {step.name}"
    return f"{type(step).__name__.lower()} {step.manifest['kind']} {objects.name(step.manifest)}"
