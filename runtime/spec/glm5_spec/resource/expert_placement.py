"""`GLM5ExpertPlacement`: the full table of which shard holds what. Owned by its deployment, written by the operator."""

from typing import ClassVar, Literal

from pydantic import Field

from glm5_spec.resource.base import keyed_by
from glm5_spec.resource.metadata import API_VERSION, Metadata
from glm5_spec.resource.status import StatusModel


class LayerHolding(StatusModel):
    """What a shard holds of some layers."""

    layers: str
    """Layers, for example "3-77"."""
    experts: str
    """Experts of each of these layers, for example "0-63,128"."""


class ShardPlacement(StatusModel):
    """What one shard holds, as it reports itself."""

    name: str
    """Name of the pod."""
    group: int = 0
    """Its group."""
    shard: int = 0
    """Its index in the group."""
    revision: str = ""
    """Its role revision."""
    ready: bool = False
    """Whether it serves."""
    holdings: list[LayerHolding] = Field(default_factory=list, max_length=1024)
    """What it holds."""


class GLM5ExpertPlacement(StatusModel):
    """Which shard holds which experts of which layer. Read it; the operator writes it."""

    KIND: ClassVar[str] = "GLM5ExpertPlacement"
    PLURAL: ClassVar[str] = "glm5expertplacements"

    api_version: Literal["serving.glm5.io/v1alpha1"] = API_VERSION
    """Version of this kind."""
    kind: Literal["GLM5ExpertPlacement"] = "GLM5ExpertPlacement"
    """Name of this kind."""
    metadata: Metadata
    """Name (that of the deployment), namespace, labels."""
    epoch: int = 0
    """Version of the placement; grows with every change."""
    summary: str = ""
    """"covered/total" experts of a layer."""
    shards: list[ShardPlacement] = Field(default_factory=list, max_length=4096, json_schema_extra=keyed_by("name"))
    """The shards."""
