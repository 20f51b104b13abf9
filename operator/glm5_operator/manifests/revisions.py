"""What is stored of a role revision: pod template, settings, number of shards."""

import hashlib
from typing import Any

from glm5_operator import names
from glm5_operator.manifests import base
from glm5_operator.manifests.base import Manifest
from glm5_operator.manifests.settings import settings, text
from glm5_operator.manifests.template import template
from glm5_spec.resource import GLM5Deployment
from glm5_spec.settings import RoleName


def controller_revision(deployment: GLM5Deployment, role: RoleName, revision: str, number: int) -> Manifest:
    """Return the ControllerRevision of a role revision, rendered now.

    Args:
        deployment: who asks.
        role: whose pods.
        revision: hash of the user's inputs.
        number: grows with each new revision of the role.
    """
    config = settings_map(deployment, role, revision)
    stored = {"name": config["metadata"]["name"], "data": config["data"]}
    data: dict[str, Any] = {"template": template(deployment, role, revision, stored["name"]), "settings": stored}
    if role == "experts":
        data["shards"] = deployment.spec.experts.shards
    name = names.controller_revision(deployment.metadata.name, role, revision)
    meta = base.metadata(deployment, name, role, revision)
    return base.manifest("apps/v1", "ControllerRevision", meta, revision=number, data=data)


def settings_map(deployment: GLM5Deployment, role: RoleName, revision: str) -> Manifest:
    """Return the ConfigMap with the settings of a role revision, rendered now and named by what it says."""
    content = text(settings(deployment, role, revision))
    digest = hashlib.sha256(content.encode()).hexdigest()
    meta = base.metadata(deployment, names.settings_map(deployment.metadata.name, role, digest), role, revision)
    return base.manifest("v1", "ConfigMap", meta, immutable=True, data={base.SETTINGS_FILE: content})
