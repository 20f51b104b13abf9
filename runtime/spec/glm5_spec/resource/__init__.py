"""The resources of the API group serving.glm5.io/v1alpha1."""

from glm5_spec.resource.deployment import ROLE_NAMES, DeploymentSpec, GLM5Deployment
from glm5_spec.resource.expert_placement import GLM5ExpertPlacement, LayerHolding, ShardPlacement
from glm5_spec.resource.load import ResourceError, faults, from_object, load_deployment
from glm5_spec.resource.local import unused_locally
from glm5_spec.resource.metadata import API_VERSION, GROUP, VERSION, Metadata, reference
from glm5_spec.resource.role_scaler import GLM5RoleScaler
from glm5_spec.resource.status import Condition, DeploymentStatus, ExpertsStatus, RoleStatus, ShardStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "ROLE_NAMES",
    "VERSION",
    "Condition",
    "DeploymentSpec",
    "DeploymentStatus",
    "ExpertsStatus",
    "GLM5Deployment",
    "GLM5ExpertPlacement",
    "GLM5RoleScaler",
    "LayerHolding",
    "Metadata",
    "ResourceError",
    "RoleStatus",
    "ShardPlacement",
    "ShardStatus",
    "faults",
    "from_object",
    "load_deployment",
    "reference",
    "unused_locally",
]
