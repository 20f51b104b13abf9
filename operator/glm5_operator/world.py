"""What was observed of one deployment: its children and what their processes say. Pure values, input of the planner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from glm5_operator.kinds import Kind, Manifest
from glm5_spec.admin import RoleState

_NOTHING: Mapping[str, Manifest] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a controller could not make a pod, as it said in an event."""

    owner: str
    """Name of the StatefulSet or Job."""
    message: str


@dataclass(frozen=True, slots=True)
class World:
    """The children of one deployment at one moment."""

    objects: Mapping[str, Mapping[str, Manifest]] = field(default_factory=dict)
    """Kind to name to object."""
    states: Mapping[str, RoleState] = field(default_factory=dict)
    """Pod name to the answer of its `/v1/state`; only answers of this pod's incarnation that are a few seconds old."""
    refusals: tuple[Refusal, ...] = ()
    deleting: bool = False
    """The deployment is going; nothing is repaired any more."""

    def all(self, kind: Kind) -> Mapping[str, Manifest]:
        """Return the objects of `kind` by name."""
        return self.objects.get(kind.kind, _NOTHING)

    def get(self, kind: Kind, name: str) -> Manifest | None:
        """Return one object, or None."""
        return self.all(kind).get(name)
