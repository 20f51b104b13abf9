"""Every child of a deployment as a manifest: pure functions, called by the planner."""

from glm5_operator.manifests.base import ADMIN_PORT, GRPC_PORT, HTTP_PORT, Environment, Manifest
from glm5_operator.manifests.jobs import check_job, download_job
from glm5_operator.manifests.others import disruption_budget, expert_placement, role_scaler, service_account
from glm5_operator.manifests.policies import network_policies
from glm5_operator.manifests.revisions import controller_revision, settings_map
from glm5_operator.manifests.services import client_service, headless_service
from glm5_operator.manifests.workloads import deployment, stateful_set
from glm5_spec.resource import ROLE_NAMES, GLM5Deployment

__all__ = [
    "ADMIN_PORT",
    "GRPC_PORT",
    "HTTP_PORT",
    "Environment",
    "Manifest",
    "check_job",
    "client_service",
    "controller_revision",
    "deployment",
    "disruption_budget",
    "download_job",
    "expert_placement",
    "fixtures",
    "headless_service",
    "network_policies",
    "role_scaler",
    "service_account",
    "settings_map",
    "stateful_set",
]


def fixtures(owner: GLM5Deployment, environment: Environment) -> list[Manifest]:
    """Return what does not depend on any revision and has to be there before the first pod."""
    return [
        service_account(owner),
        client_service(owner),
        *(headless_service(owner, role) for role in ROLE_NAMES),
        *(disruption_budget(owner, role) for role in ROLE_NAMES),
        *network_policies(owner, environment),
    ]
