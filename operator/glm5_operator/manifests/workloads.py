"""Who keeps the pods: a Deployment for gateway, prefill and decode, a StatefulSet for a group of shards."""

from glm5_operator import names
from glm5_operator.manifests import base
from glm5_operator.manifests.base import Manifest
from glm5_spec.resource import GLM5Deployment
from glm5_spec.settings import RoleName

_DEADLINE_SECONDS = 3600  # as long as a pod may take to start


def deployment(owner: GLM5Deployment, role: RoleName, template: Manifest, replicas: int) -> Manifest:
    """Return the Deployment of a role: a new pod first, an old one goes when the new one is ready."""
    name = owner.metadata.name
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": names.selector(name, role)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": _DEADLINE_SECONDS,
        "revisionHistoryLimit": 2,
        "template": template,
    }
    meta = base.metadata(owner, names.deployment(name, role), role)
    return base.manifest("apps/v1", "Deployment", meta, spec=spec)


def stateful_set(owner: GLM5Deployment, group: int, revision: str, template: Manifest, shards: int) -> Manifest:
    """Return the StatefulSet of one group of shards in one revision; its template never changes.

    Args:
        owner: whose shards.
        group: number of the group, from 0.
        revision: role revision of the template.
        template: as stored.
        shards: pods of the group.
    """
    name = owner.metadata.name
    labels = {**template["metadata"]["labels"], names.GROUP_LABEL: str(group)}
    chosen = {**names.selector(name, "experts"), names.REVISION_LABEL: revision, names.GROUP_LABEL: str(group)}
    spec = {
        "replicas": shards,
        "serviceName": names.headless_service(name, "experts"),
        "selector": {"matchLabels": chosen},
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
    }
    meta = base.metadata(owner, names.stateful_set(name, group, revision), "experts", revision, group)
    return base.manifest("apps/v1", "StatefulSet", meta, spec=spec)
