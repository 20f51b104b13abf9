"""Shard sets and attention workers as observed, and the one question on which a rollout turns: may this set go?"""

from collections.abc import Sequence
from dataclasses import dataclass

from glm5_operator import history, objects
from glm5_operator.kinds import DEPLOYMENT, POD, STATEFUL_SET, Manifest
from glm5_operator.names import GROUP_LABEL, REVISION_LABEL, ROLE_LABEL
from glm5_operator.world import World
from glm5_spec.admin import RoleState
from glm5_spec.settings import RoleName

SERVED = "serving.glm5.io/served-compat"
"""Annotation of a shard set: the compat with which all its shards were up for the first time."""
ATTENTION: tuple[RoleName, ...] = ("prefill", "decode")


@dataclass(frozen=True, slots=True)
class ShardSet:
    """One StatefulSet: the shards of one group in one revision."""

    live: Manifest
    states: tuple[RoleState | None, ...]
    """One per shard in order; None where the pod is missing, going or silent."""

    @property
    def name(self) -> str:
        """Return the name of the StatefulSet."""
        return objects.name(self.live)

    @property
    def group(self) -> int:
        """Return the number of the group."""
        return int(objects.label(self.live, GROUP_LABEL))

    @property
    def revision(self) -> str:
        """Return the role revision."""
        return objects.label(self.live, REVISION_LABEL)

    @property
    def going(self) -> bool:
        """Return whether the set is being deleted."""
        return objects.terminating(self.live)

    @property
    def served(self) -> bool:
        """Return whether all shards were up at once some time."""
        return bool(objects.annotation(self.live, SERVED))

    @property
    def complete(self) -> bool:
        """Return whether every shard says that it serves."""
        return not self.going and all(state is not None and state.ready for state in self.states)

    @property
    def compat(self) -> str:
        """Return the compat of the shards, as they say or once said; empty if never known."""
        said = {state.compat for state in self.states if state is not None and state.compat}
        return said.pop() if len(said) == 1 else objects.annotation(self.live, SERVED)

    @property
    def pods(self) -> frozenset[str]:
        """Return the names of the pods."""
        return frozenset(f"{self.name}-{index}" for index in range(len(self.states)))


@dataclass(frozen=True, slots=True)
class Worker:
    """One prefill or decode pod that may be running."""

    pod: Manifest
    state: RoleState | None

    @property
    def name(self) -> str:
        """Return the name of the pod."""
        return objects.name(self.pod)


def shard_sets(world: World) -> list[ShardSet]:
    """Return every shard set, by group and name."""
    sizes = {revision: one.shards for revision, one in history.stored(world, "experts").items()}
    found = [ShardSet(live, _states(world, live, sizes)) for live in world.all(STATEFUL_SET).values()]
    return sorted(found, key=lambda one: (one.group, one.name))


def workers(world: World) -> list[Worker]:
    """Return every attention worker that is running or may begin to."""
    pods = [pod for pod in world.all(POD).values() if objects.label(pod, ROLE_LABEL) in ATTENTION]
    alive = [pod for pod in pods if not objects.finished(pod)]
    return [Worker(pod, world.states.get(objects.name(pod))) for pod in alive]


def needed_by(old: ShardSet, others: Sequence[ShardSet], world: World) -> str:
    """Return who still needs `old`, in words; empty if nobody does.

    A worker does without it if it is of another compat, or routes to every shard of a complete other set. What cannot
    be asked counts as in need, unless none of its processes can be running.
    """
    rest = [one for one in others if one.name != old.name and one.complete]
    for worker in workers(world):
        if reason := _need(worker, old, rest):
            return reason
    successors = [one for one in rest if one.compat == old.compat]
    if old.served and not successors:
        return _unrolled(world)
    return ""


def _need(worker: Worker, old: ShardSet, rest: Sequence[ShardSet]) -> str:
    if worker.state is None:
        return f"{worker.name} does not answer" if objects.running(worker.pod) and old.served else ""
    routes = frozenset(worker.state.shard_peers)
    if any(one.pods <= routes and one.compat == worker.state.compat for one in rest):
        return ""
    if old.compat and worker.state.compat and worker.state.compat != old.compat:
        return ""
    if old.served or routes & old.pods:
        return f"{worker.name} has no other complete group of its compat"
    return ""


def _unrolled(world: World) -> str:
    """Return which attention role has pods of an older template; empty if none.

    Nobody of another compat takes over from the set, so its last user must be gone and none may come back.
    """
    for live in world.all(DEPLOYMENT).values():
        if objects.label(live, ROLE_LABEL) in ATTENTION and not objects.rolled(live):
            return f"{objects.name(live)} is still rolling"
    return ""


def _states(world: World, live: Manifest, sizes: dict[str, int]) -> tuple[RoleState | None, ...]:
    # The stored number: somebody may have scaled the StatefulSet, and half a group is no group.
    size = sizes.get(objects.label(live, REVISION_LABEL), int(live["spec"].get("replicas", 1)))
    names = [f"{objects.name(live)}-{index}" for index in range(size)]
    return tuple(_state(world, name) for name in names)


def _state(world: World, name: str) -> RoleState | None:
    pod = world.get(POD, name)
    if pod is None or objects.terminating(pod) or objects.finished(pod):
        return None
    return world.states.get(name)
