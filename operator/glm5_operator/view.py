"""Everything a condition may look at: what is wanted, what was observed, what the planner said."""

from dataclasses import dataclass

from glm5_operator import objects
from glm5_operator.kinds import POD, Manifest
from glm5_operator.names import REVISION_LABEL, ROLE_LABEL
from glm5_operator.placement import coverage
from glm5_operator.revision import role_revision
from glm5_operator.scale import replicas
from glm5_operator.shards import shard_sets
from glm5_operator.steps import Plan, Wait
from glm5_operator.world import World
from glm5_spec.admin import RoleState
from glm5_spec.resource import ROLE_NAMES, ExpertsStatus, GLM5Deployment, RoleStatus
from glm5_spec.settings import RoleName


@dataclass(frozen=True)
class View:
    """One deployment after one pass."""

    deployment: GLM5Deployment
    world: World
    plan: Plan
    refused: tuple[Wait, ...] = ()
    """Writes that the API server refused in this pass."""

    def pods(self, role: RoleName) -> list[Manifest]:
        """Return the pods of a role, by name."""
        found = [pod for pod in self.world.all(POD).values() if objects.label(pod, ROLE_LABEL) == role]
        return sorted(found, key=objects.name)

    def states(self, role: RoleName) -> list[RoleState]:
        """Return what the processes of a role say, by pod name."""
        answers = (self.world.states.get(objects.name(pod)) for pod in self.pods(role))
        return [state for state in answers if state is not None]

    @property
    def roles(self) -> list[RoleStatus]:
        """Return the counts of each role."""
        return [self.role(name) for name in ROLE_NAMES]

    def role(self, name: RoleName) -> RoleStatus:
        """Return the counts of one role; experts are counted in groups."""
        revision = role_revision(self.deployment, name)
        ready, updated = self._groups(revision) if name == "experts" else self._workers(name, revision)
        desired = replicas(self.deployment, self.world, name)
        summary = f"{ready}/{desired}"
        return RoleStatus(name=name, desired=desired, ready=ready, updated=updated, revision=revision, summary=summary)

    @property
    def coverage(self) -> ExpertsStatus:
        """Return which experts can be reached."""
        return coverage(self.world)

    def _workers(self, role: RoleName, revision: str) -> tuple[int, int]:
        staying = [pod for pod in self.pods(role) if not objects.terminating(pod) and not objects.finished(pod)]
        new = [pod for pod in staying if objects.label(pod, REVISION_LABEL) == revision]
        return sum(map(objects.ready, staying)), len(new)

    def _groups(self, revision: str) -> tuple[int, int]:
        sets = [one for one in shard_sets(self.world) if not one.going]
        groups = {one.group for one in sets if one.complete}
        return len(groups), len({one.group for one in sets if one.revision == revision})
