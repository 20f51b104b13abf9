"""The CustomResourceDefinitions as the classes say them; tools/gen_crds.py writes them to files."""

from typing import Any

from glm5_spec.resource.base import ResourceModel
from glm5_spec.resource.deployment import GLM5Deployment
from glm5_spec.resource.expert_placement import GLM5ExpertPlacement
from glm5_spec.resource.metadata import GROUP, VERSION
from glm5_spec.resource.role_scaler import GLM5RoleScaler
from glm5_spec.resource.structural import structural

Column = tuple[str, str, str, int]
_READY = '.status.conditions[?(@.type=="Ready")]'
_DEPLOYMENT_COLUMNS: list[Column] = [
    ("Model", ".spec.model.servedNames[0]", "string", 0),
    ("Ready", f"{_READY}.status", "string", 0),
    ("Serving", '.status.conditions[?(@.type=="Serving")].status', "string", 0),
    ("Reason", f"{_READY}.reason", "string", 0),
    ("Prefill", ".status.prefill", "string", 0),
    ("Decode", ".status.decode", "string", 0),
    ("Experts", ".status.experts.summary", "string", 0),
    ("Age", ".metadata.creationTimestamp", "date", 0),
    ("Revision", ".spec.model.revision", "string", 1),
    ("Url", ".status.url", "string", 1),
    ("Accelerator", ".status.accelerator", "string", 1),
]
_PLACEMENT_COLUMNS: list[Column] = [
    ("Experts", ".summary", "string", 0),
    ("Epoch", ".epoch", "integer", 0),
    ("Age", ".metadata.creationTimestamp", "date", 0),
]
_SCALER_COLUMNS: list[Column] = [
    ("Deployment", ".spec.deployment", "string", 0),
    ("Role", ".spec.role", "string", 0),
    ("Desired", ".spec.replicas", "integer", 0),
    ("Current", ".status.replicas", "integer", 0),
    ("Age", ".metadata.creationTimestamp", "date", 0),
]
_SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def crds() -> list[dict[str, Any]]:
    """Return the CRDs in order of their names."""
    return [
        _crd(GLM5Deployment, "glm5", _DEPLOYMENT_COLUMNS, {"status": {}}),
        _crd(GLM5ExpertPlacement, "glm5ep", _PLACEMENT_COLUMNS, {}),
        _crd(GLM5RoleScaler, "glm5rs", _SCALER_COLUMNS, {"status": {}, "scale": _SCALE}),
    ]


def _crd(model: type[ResourceModel], short: str, columns: list[Column], subresources: dict[str, Any]) -> dict[str, Any]:
    """Return the CRD of one kind."""
    kind: str = model.KIND  # type: ignore[attr-defined]
    plural: str = model.PLURAL  # type: ignore[attr-defined]
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower(), "shortNames": [short]}
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": structural(model)},
        "additionalPrinterColumns": [_column(*column) for column in columns],
    }
    if subresources:
        version["subresources"] = subresources
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _column(name: str, path: str, kind: str, priority: int) -> dict[str, Any]:
    """Return a printer column; priority 1 shows with `-o wide`."""
    column: dict[str, Any] = {"name": name, "jsonPath": path, "type": kind}
    return column | ({"priority": priority} if priority else {})
