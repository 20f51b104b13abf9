"""A deployment from a file or from the API server."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from glm5_spec.resource.deployment import GLM5Deployment
from glm5_spec.resource.metadata import API_VERSION


class ResourceError(Exception):
    """A deployment is wrong; the message names file, field, what is wrong and how to fix it."""


def load_deployment(path: str | Path) -> GLM5Deployment:
    """Return the GLM5Deployment in the YAML file `path`, checked as the API server would.

    Raises:
        ResourceError: no such file, no YAML, not exactly one GLM5Deployment in it, or a field is wrong.
    """
    try:
        documents = [one for one in yaml.safe_load_all(Path(path).read_text()) if one is not None]
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror}; check -f") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ResourceError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    found = [one for one in documents if isinstance(one, dict) and one.get("kind") == GLM5Deployment.KIND]
    if len(found) != 1:
        raise ResourceError(f"{path} holds {len(found)} objects of kind GLM5Deployment; one is needed")
    try:
        return GLM5Deployment.model_validate(found[0])
    except ValidationError as error:
        raise ResourceError(f"{path}: {faults(error)}") from error


def from_object(manifest: dict[str, Any]) -> GLM5Deployment:
    """Return the deployment that the API server sent; fields of a newer CRD are left out.

    Raises:
        ValidationError: the object breaks a rule of this version (it was written under an older CRD).
    """
    return GLM5Deployment.model_validate(manifest, extra="ignore")


def faults(error: ValidationError) -> str:
    """Return every fault with its field: "spec.experts.shards: Input should be ...; spec.model: ..."."""
    return "; ".join(_fault(one) for one in error.errors(include_url=False))


def _fault(fault: Any) -> str:
    """Return one fault with its field and, where it is short, the value."""
    place = ""
    for part in fault["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    text = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        text = f"there is no such field in {API_VERSION}; check its spelling"
    elif fault["type"] == "missing":
        text = "is missing"
    value = fault["input"]
    shown = f" (is {value!r})" if isinstance(value, str | int | float | bool) and len(str(value)) <= 80 else ""
    return f"{place.lstrip('.') or 'the object'}: {text}{shown}"
