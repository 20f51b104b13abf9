"""The kinds of objects that the operator reads and writes, and where the API has them."""

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""An object as JSON has it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object."""

    kind: str
    api_version: str
    plural: str

    @property
    def group(self) -> str:
        """Return the API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path below the API server's address."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        parts += ["namespaces", namespace] if namespace else []
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
STATEFUL_SET = Kind("StatefulSet", "apps/v1", "statefulsets")
CONTROLLER_REVISION = Kind("ControllerRevision", "apps/v1", "controllerrevisions")
POD = Kind("Pod", "v1", "pods")
SERVICE = Kind("Service", "v1", "services")
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
SERVICE_ACCOUNT = Kind("ServiceAccount", "v1", "serviceaccounts")
JOB = Kind("Job", "batch/v1", "jobs")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies")
ROLE_SCALER = Kind("GLM5RoleScaler", "serving.glm5.io/v1alpha1", "glm5rolescalers")
PLACEMENT = Kind("GLM5ExpertPlacement", "serving.glm5.io/v1alpha1", "glm5expertplacements")
GLM5_DEPLOYMENT = Kind("GLM5Deployment", "serving.glm5.io/v1alpha1", "glm5deployments")
LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")
EVENT = Kind("Event", "v1", "events")

WRITTEN = (
    SERVICE_ACCOUNT,
    SERVICE,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    ROLE_SCALER,
    JOB,
    STATEFUL_SET,
    DEPLOYMENT,
    PLACEMENT,
)
"""Children that the operator writes."""
CHILDREN = (*WRITTEN, POD)
"""Everything of a deployment that the operator reads and watches, by label."""
_BY_NAME = {kind.kind: kind for kind in (*CHILDREN, GLM5_DEPLOYMENT, LEASE, EVENT)}


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of an object."""
    return _BY_NAME[manifest["kind"]]
