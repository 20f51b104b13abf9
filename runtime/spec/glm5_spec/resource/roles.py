"""The four roles of a deployment."""

from typing import Annotated, Literal

from pydantic import Field

from glm5_spec.resource.base import ResourceModel, Rule, exactly_one, one_of
from glm5_spec.resource.pods import Accelerator, Placement, PodOverrides, Resources
from glm5_spec.resource.source import SecretKey

Replicas = Annotated[int, Field(ge=0, le=64)]
_ONE_COUNT = Rule(
    one_of("replicas", "scaling"),
    "exactly one of replicas and scaling says how many there are",
    lambda self: exactly_one(self.replicas, self.scaling),
)


class Scaling(ResourceModel):
    """Lets somebody else (kubectl scale, an autoscaler) say how many there are, through the role's GLM5RoleScaler."""

    mode: Literal["External"] = "External"
    """Who decides: whoever writes the scale of the GLM5RoleScaler."""
    min_replicas: Replicas = 1
    """Number to begin with; less is never run."""
    max_replicas: Replicas
    """More is never run."""

    RULES = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas is above maxReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
        ),
    )


class Role(ResourceModel):
    """What every role has."""

    replicas: Replicas | None = None
    """How many there are. Either this or `scaling`."""
    scaling: Scaling | None = None
    """Who else says how many there are. Either this or `replicas`."""
    resources: Resources = Resources()
    """CPU and memory of one pod."""
    drain_seconds: Annotated[int, Field(ge=0, le=86400)] = 30
    """How long a pod that has to go may finish what it runs; then its streams go on elsewhere."""
    placement: Placement = Placement()
    """On which nodes the pods run."""
    pod: PodOverrides = PodOverrides()
    """Small changes to the pods."""

    @property
    def initial_replicas(self) -> int:
        """Return the number to begin with."""
        return self.scaling.min_replicas if self.scaling else self.replicas or 0

    def clamp(self, replicas: int) -> int:
        """Return `replicas` within the bounds of `scaling`; without scaling the spec's own number."""
        if self.scaling is None:
            return self.initial_replicas
        return max(self.scaling.min_replicas, min(replicas, self.scaling.max_replicas))


class GatewayRole(Role):
    """The gateways: HTTP and gRPC for clients, text to tokens and back."""

    api_keys: SecretKey | None = None
    """Secret with one API key a line; without it everybody is let in."""
    max_queue: Annotated[int, Field(ge=0, le=1000000)] = 1024
    """Requests that may wait for a worker; one more is a 429."""
    max_running: Annotated[int, Field(ge=1, le=1000000)] = 512
    """Requests that may run."""
    request_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 3600
    """Longest life of a request."""
    retry_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """How long a broken stream may look for another worker."""

    RULES = (_ONE_COUNT,)


class ComputeRole(Role):
    """What every role that loads weights has."""

    accelerator: Accelerator = Accelerator()
    """What the pods compute on."""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads of one process. If not given: the limit of CPU, else the request, rounded up, else 1."""


class PrefillRole(ComputeRole):
    """The prefill workers: prompts in, caches out."""

    cache_tokens: Annotated[int, Field(ge=64, le=100_000_000)] = 65536
    """Size of the cache of one worker, in tokens."""
    max_sequences: Annotated[int, Field(ge=1, le=65536)] = 256
    """Prompts that run at once."""
    max_step_tokens: Annotated[int, Field(ge=1, le=65536)] = 512
    """Rows of one step."""
    max_queue: Annotated[int, Field(ge=0, le=1000000)] = 1024
    """Prompts that may wait; one more is refused."""

    RULES = (_ONE_COUNT,)


class DecodeRole(PrefillRole):
    """The decode workers: one continuous batch each, tokens out."""

    local_prefill_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 64
    """A decode worker computes an uncached rest of a prompt up to this length itself."""

    RULES = (_ONE_COUNT,)


class Rollout(ResourceModel):
    """How new shards take the place of old ones."""

    strategy: Literal["Surge", "Replace"] = "Surge"
    """"Surge" starts a new group beside the old one; "Replace" takes one group down first, where devices are scarce."""


class ExpertsRole(ComputeRole):
    """The expert shards: `shards` processes together hold every expert, and there are `replicas` such groups."""

    shards: Annotated[int, Field(ge=1, le=256)]
    """Pods of one group; each holds an equal part of the experts of every layer."""
    rollout: Rollout = Rollout()
    """How new shards take the place of old ones."""
    reply_mode: Literal["Rows", "Reduced"] = "Rows"
    """"Rows" sends one output per row and expert; "Reduced" sums on the shard: fewer bytes, other bits."""

    RULES = (
        _ONE_COUNT,
        Rule(
            "self.rollout.strategy != 'Replace' || (has(self.replicas) && self.replicas != 1) || "
            "(has(self.scaling) && self.scaling.minReplicas >= 2)",
            "rollout strategy Replace needs at least 2 replicas, so that one group serves while the other is replaced",
            lambda self: (
                self.rollout.strategy != "Replace"
                or (self.replicas is not None and self.replicas != 1)
                or (self.scaling is not None and self.scaling.min_replicas >= 2)
            ),
        ),
    )
