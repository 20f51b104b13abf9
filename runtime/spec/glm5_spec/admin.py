"""What `GET /v1/state` on a role's admin port says; read by the operator and by `glm5 status`."""

from pydantic import Field

from glm5_spec.base import Model
from glm5_spec.settings import RoleName


class PeerState(Model):
    """A peer as this process sees it."""

    role: RoleName
    name: str
    address: str
    incarnation: str = ""
    compat: str = ""
    usable: bool
    reason: str = ""
    """Why it is not usable; empty when it is."""


class Holding(Model):
    """A run of experts of one layer."""

    layer: int
    first: int
    count: int


class RoleState(Model):
    """The state of one process."""

    deployment: str
    role: RoleName
    name: str
    incarnation: str
    role_revision: str
    compat: str = ""
    weight_version: int = 0
    kernel_fingerprint: str = ""
    grpc_address: str = ""
    started: bool
    ready: bool
    reason: str = ""
    """Why it is not ready; empty when it is."""
    draining: bool = False
    in_flight: int = 0
    """Requests, runs or batches that are queued or running."""
    loading_progress: float = Field(default=0.0, ge=0, le=1)
    last_error: str = ""
    holdings: list[Holding] = Field(default_factory=list)
    group: int = 0
    placement_epoch: int = 0
    covered: bool = False
    """Every expert can be reached from here (attention workers), or by some decode worker (gateway)."""
    missing: str = ""
    shard_peers: list[str] = Field(default_factory=list)
    """Names of the shards to which this worker routes."""
    peers: list[PeerState] = Field(default_factory=list)
    memory_bytes: int = 0
    """Resident set of the process."""
