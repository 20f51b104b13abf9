"""What `glm5 up -f` leaves out of a deployment."""

from collections.abc import Iterator

from pydantic import BaseModel

from glm5_spec.resource.deployment import GLM5Deployment

_IN_EVERY_ROLE = ("scaling", "resources", "placement", "pod")
_UNUSED = {
    "spec": ("images", "imagePullSecrets", "paused", "restart", "service", "labels", "tls"),
    "spec.gateway": _IN_EVERY_ROLE,
    "spec.prefill": (*_IN_EVERY_ROLE, "accelerator"),
    "spec.decode": (*_IN_EVERY_ROLE, "accelerator"),
    "spec.experts": (*_IN_EVERY_ROLE, "accelerator", "rollout"),
}


def unused_locally(deployment: GLM5Deployment) -> list[str]:
    """Return the fields that the file sets and that mean nothing on one machine, for example "spec.images"."""
    return [f"{place}.{field}" for place, field in _set_fields(deployment) if field in _UNUSED[place]]


def _set_fields(deployment: GLM5Deployment) -> Iterator[tuple[str, str]]:
    """Return (place, field) of what was written in the places that `_UNUSED` names."""
    for place in _UNUSED:
        section: BaseModel = deployment
        for part in place.split("."):
            section = getattr(section, part)
        for field in type(section).model_fields:
            if field in section.model_fields_set:
                yield place, type(section).model_fields[field].alias or field
