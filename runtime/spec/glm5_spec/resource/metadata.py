"""What Kubernetes writes about every object; only what is used here."""

from typing import Any, Final

from pydantic import ConfigDict, Field

from glm5_spec.resource.base import ResourceModel

GROUP = "serving.glm5.io"
VERSION = "v1alpha1"
API_VERSION: Final = "serving.glm5.io/v1alpha1"


class Metadata(ResourceModel):
    """The metadata of an object; what is not used here is left out."""

    # A file may say more about itself than we use, and the API server does.
    model_config = ConfigDict(extra="ignore", strict=False)

    name: str
    """Name of the object."""
    namespace: str = "default"
    """Namespace of the object."""
    uid: str = ""
    """Identity in its life; empty before it exists."""
    generation: int = 0
    """Version of the spec."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations."""
    creation_timestamp: str | None = None
    """When it was made (RFC 3339)."""
    deletion_timestamp: str | None = None
    """When its deletion was asked for; None while it lives."""


def reference(kind: str, metadata: Metadata) -> dict[str, Any]:
    """Return an ownerReference to the object; the owner's foreground deletion waits for what has it."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
