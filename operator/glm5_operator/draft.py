"""The plan while it is made: the parts of the planner say what they want, the draft keeps what that takes."""

from glm5_operator import diff, objects
from glm5_operator.kinds import Kind, Manifest, kind_of
from glm5_operator.manifests import Environment
from glm5_operator.names import FIELD_MANAGER
from glm5_operator.reasons import Reason
from glm5_operator.steps import Apply, Create, Delete, Plan, Step, Wait
from glm5_operator.world import World
from glm5_spec.resource import GLM5Deployment


class Draft:
    """Collects steps and waits for one deployment in one world."""

    def __init__(self, deployment: GLM5Deployment, world: World, environment: Environment) -> None:
        self.deployment = deployment
        self.environment = environment
        self.world = world
        self.wanted: set[tuple[str, str]] = set()
        """(kind, name) of everything that shall exist."""
        self._steps: list[Step] = []
        self._waits: list[Wait] = []

    @property
    def settled(self) -> bool:
        """Return whether nothing is to be done or waited for yet."""
        return not self._steps and not self._waits

    def want(self, manifest: Manifest, why: str = "") -> None:
        """Ask for the object to be as `manifest` says; one that is going is left to go first."""
        self.wanted.add((manifest["kind"], objects.name(manifest)))
        live = self.world.get(kind_of(manifest), objects.name(manifest))
        wanted = diff.stamped(manifest)
        if live is None:
            self._steps.append(Apply(wanted, "create"))
        elif not objects.terminating(live) and diff.differs(live, wanted, FIELD_MANAGER):
            self._steps.append(Apply(wanted, why or self._reason(live, wanted)))

    def want_once(self, manifest: Manifest) -> None:
        """Ask for an object that cannot change: once there, it is repaired but never made anew.

        Another version of the operator may render it otherwise; what is there stays.
        """
        live = self.world.get(kind_of(manifest), objects.name(manifest))
        if live is None or objects.annotation(live, diff.HASH) == diff.digest(manifest):
            return self.want(manifest)
        self.keep(kind_of(manifest), objects.name(manifest))

    def keep(self, kind: Kind, name: str) -> None:
        """Leave an object as it is."""
        self.wanted.add((kind.kind, name))

    def create(self, manifest: Manifest) -> None:
        """Ask for an object to exist."""
        self.wanted.add((manifest["kind"], objects.name(manifest)))
        if self.world.get(kind_of(manifest), objects.name(manifest)) is None:
            self._steps.append(Create(manifest))

    def drop(self, kind: Kind, live: Manifest, why: str) -> None:
        """Ask for an object to go, unless it already goes."""
        if not objects.terminating(live):
            metadata = live["metadata"]
            self._steps.append(Delete(kind, metadata["namespace"], metadata["name"], metadata["uid"], why))

    def wait(self, reason: Reason, message: str, *, model: bool = False) -> None:
        """Say why something is not done yet."""
        self._waits.append(Wait(reason, message, model))

    def plan(self) -> Plan:
        """Return what was collected."""
        return Plan(tuple(self._steps), tuple(self._waits))

    def _reason(self, live: Manifest, wanted: Manifest) -> str:
        """Say whether we want something new, or somebody else changed the object."""
        before, now = objects.annotation(live, diff.HASH), objects.annotation(wanted, diff.HASH)
        return "repair" if before == now else "update"
