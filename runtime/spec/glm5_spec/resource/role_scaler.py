"""`GLM5RoleScaler`: the scale of one role, for `kubectl scale` and autoscalers."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from glm5_spec.resource.base import ResourceModel, Rule
from glm5_spec.resource.metadata import API_VERSION, Metadata
from glm5_spec.resource.status import StatusModel
from glm5_spec.resource.text import ObjectName


class RoleScalerSpec(ResourceModel):
    """What is wanted of one role."""

    deployment: ObjectName
    """Name of the GLM5Deployment."""
    role: Literal["gateway", "prefill", "decode", "experts"]
    """The role."""
    replicas: Annotated[int, Field(ge=0, le=64)] | None = None
    """How many there are; written by whoever scales, never again by the operator. The role's `scaling` bounds it."""

    RULES = (
        Rule("self.deployment == oldSelf.deployment", "deployment cannot change; delete the scaler, a new one is made"),
        Rule("self.role == oldSelf.role", "role cannot change; delete the scaler, a new one is made"),
    )


class RoleScalerStatus(StatusModel):
    """What is there."""

    observed_generation: int = 0
    """Version of the spec that the operator has acted on."""
    replicas: int = 0
    """Replicas that run."""
    selector: str = ""
    """Label selector of the role's pods, as text, for autoscalers."""


class GLM5RoleScaler(ResourceModel):
    """The scale of one role of a GLM5Deployment. The operator makes it where a role has `scaling`."""

    KIND: ClassVar[str] = "GLM5RoleScaler"
    PLURAL: ClassVar[str] = "glm5rolescalers"

    api_version: Literal["serving.glm5.io/v1alpha1"] = API_VERSION
    """Version of this kind."""
    kind: Literal["GLM5RoleScaler"] = "GLM5RoleScaler"
    """Name of this kind."""
    metadata: Metadata
    """Name, namespace, labels."""
    spec: RoleScalerSpec
    """What is wanted."""
    status: RoleScalerStatus | None = None
    """What is there; written by the operator."""
