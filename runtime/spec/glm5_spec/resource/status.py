"""What the operator says about a deployment."""

from typing import Literal

from pydantic import ConfigDict, Field

from glm5_spec.resource.base import ResourceModel, keyed_by


class StatusModel(ResourceModel):
    """A part of a status. An older operator reads what a newer one wrote, so unknown fields are left out."""

    model_config = ConfigDict(extra="ignore", strict=False)


class Condition(StatusModel):
    """One statement about the deployment; docs/operator.md lists types and reasons."""

    type: str
    """What is stated, for example Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: str
    """Why, in one word of a closed set."""
    message: str = ""
    """Why, for people, and what to do."""
    observed_generation: int = 0
    """Version of the spec for which it was found."""
    last_transition_time: str
    """When `status` last changed (RFC 3339)."""


class RoleStatus(StatusModel):
    """Pods of one role."""

    name: str
    """Name of the role."""
    desired: int = 0
    """Replicas that are wanted."""
    ready: int = 0
    """Replicas whose pods are ready, of all revisions; a group of experts counts when each shard is."""
    updated: int = 0
    """Replicas of the wanted revision."""
    revision: str = ""
    """The wanted revision of the role."""
    summary: str = ""
    """"ready/desired", for kubectl get."""


class ShardStatus(StatusModel):
    """One expert shard."""

    name: str
    """Name of the pod."""
    group: int = 0
    """Its group."""
    shard: int = 0
    """Its index in the group."""
    ready: bool = False
    """Whether it serves."""
    experts: str = ""
    """What it holds of every layer, for example "0-63"; "varies" where layers differ (see GLM5ExpertPlacement)."""


class ExpertsStatus(StatusModel):
    """Which experts can be reached."""

    total: int = 0
    """Experts of one layer; 0 while unknown."""
    covered: int = 0
    """Experts of one layer that some ready shard holds; the least of all layers."""
    summary: str = ""
    """"covered/total", for kubectl get."""
    shards: list[ShardStatus] = Field(default_factory=list, json_schema_extra=keyed_by("name"))
    """The shards."""


class DeploymentStatus(StatusModel):
    """What is there."""

    observed_generation: int = 0
    """Version of the spec that the operator has acted on."""
    conditions: list[Condition] = Field(default_factory=list, json_schema_extra=keyed_by("type"))
    """Statements; docs/operator.md lists them."""
    roles: list[RoleStatus] = Field(default_factory=list, json_schema_extra=keyed_by("name"))
    """Pods by role."""
    prefill: str = ""
    """"ready/desired" of prefill, for kubectl get."""
    decode: str = ""
    """"ready/desired" of decode, for kubectl get."""
    experts: ExpertsStatus = ExpertsStatus()
    """Which experts can be reached."""
    model: str = ""
    """The name that answers carry."""
    model_revision: str = ""
    """The model revision that serves."""
    url: str = ""
    """Address for clients in the cluster."""
    accelerator: str = ""
    """Types of accelerator in use."""
