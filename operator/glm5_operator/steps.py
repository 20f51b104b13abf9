"""What the planner may ask for. Each step is one write; doing it twice equals doing it once."""

from dataclasses import dataclass

from glm5_operator.kinds import Kind, Manifest
from glm5_operator.reasons import Reason


@dataclass(frozen=True, slots=True)
class Apply:
    """Make the fields of `manifest` what it says, whether the object exists or not."""

    manifest: Manifest
    why: str
    """"create", "repair", "roll" or "scale"."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make the object unless it exists; afterwards its spec is somebody else's."""

    manifest: Manifest
    why: str = "create"


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove exactly this object: the name with this uid."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    why: str


Step = Apply | Create | Delete


@dataclass(frozen=True, slots=True)
class Wait:
    """Why the planner does not go on."""

    reason: Reason
    message: str
    model: bool = False
    """It is the model that is waited for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that are safe now, in order, and what the rest waits for."""

    steps: tuple[Step, ...] = ()
    waits: tuple[Wait, ...] = ()
