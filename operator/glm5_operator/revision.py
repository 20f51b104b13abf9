"""Names for what the user asked for: a hash of exactly those inputs whose change makes pods restart.

Only what the user wrote enters, never a rendered pod: another version of the operator or of a library gives the same
hash. Values that equal their default are left out, so a field that is added later changes no hash.
"""

from typing import Any

from glm5_operator.diff import digest
from glm5_spec.resource import GLM5Deployment
from glm5_spec.settings import RoleName

_NOT_OF_THE_PODS = {"replicas", "scaling", "rollout", "replyMode"}
_SHARED = ("imagePullSecrets", "detectionSeconds", "restart", "labels", "telemetry", "tls")


def role_revision(deployment: GLM5Deployment, role: RoleName) -> str:
    """Return 10 hex digits that change exactly when the pods of `role` have to be others."""
    spec = _inputs(deployment)
    inputs: dict[str, Any] = {key: spec[key] for key in _SHARED if key in spec}
    inputs["section"] = {key: value for key, value in spec[role].items() if key not in _NOT_OF_THE_PODS}
    inputs["image"] = spec["images"]["gateway" if role == "gateway" else "runtime"]
    inputs["pullPolicy"] = spec["images"].get("pullPolicy")
    inputs["model"] = {key: value for key, value in spec["model"].items() if role == "gateway" or key != "servedNames"}
    if role != "gateway":
        inputs["numbers"] = [spec.get("dtype"), spec.get("numerics")]
    if role in ("prefill", "decode"):
        inputs["replyMode"] = spec["experts"].get("replyMode")
    return digest([role, inputs])[:10]


def check_key(deployment: GLM5Deployment) -> str:
    """Return 10 hex digits that change when the model has to be checked (again)."""
    spec = _inputs(deployment)
    model = {key: value for key, value in spec["model"].items() if key != "servedNames"}
    return digest(["check", model, *_job_inputs(spec)])[:10]


def download_key(deployment: GLM5Deployment) -> str:
    """Return 10 hex digits that change when the model has to be downloaded (again)."""
    spec = _inputs(deployment)
    return digest(["download", spec["model"]["source"], *_job_inputs(spec)])[:10]


def _job_inputs(spec: dict[str, Any]) -> list[Any]:
    images, placement = spec["images"], spec["decode"].get("placement")
    return [images["runtime"], images.get("pullPolicy"), placement, spec.get("imagePullSecrets"), spec.get("restart")]


def _inputs(deployment: GLM5Deployment) -> dict[str, Any]:
    return deployment.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
