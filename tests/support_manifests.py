"""Every manifest of a deployment, as the planner would ask for them at first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glm5_operator import manifests
from glm5_operator.revision import check_key, download_key, role_revision
from glm5_spec.resource import ROLE_NAMES, GLM5Deployment, ShardPlacement, from_object, load_deployment

Manifest = dict[str, Any]
EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("toy", "nvidia", "ascend-a2", "ascend-a3", "huggingface")
ENVIRONMENT = manifests.Environment("glm5-system", ("monitoring",))


def example(name: str, namespace: str = "serving", uid: str = "3f0c7d5a-uid") -> GLM5Deployment:
    """The deployment of an example file as if it were in a cluster."""
    return placed(load_deployment(EXAMPLES / f"{name}.yaml"), namespace, uid)


def placed(deployment: GLM5Deployment, namespace: str, uid: str) -> GLM5Deployment:
    """The deployment with the namespace and uid that the API server would give it."""
    body = deployment.model_dump(mode="json", exclude_none=True)
    return from_object({**body, "metadata": {**body["metadata"], "namespace": namespace, "uid": uid}})


def children(deployment: GLM5Deployment) -> list[Manifest]:
    """Every child, in the order in which it may be applied."""
    found = manifests.fixtures(deployment, ENVIRONMENT)
    for role in ROLE_NAMES:
        revision = role_revision(deployment, role)
        stored = manifests.controller_revision(deployment, role, revision, 1)
        found += [stored, manifests.settings_map(deployment, role, revision)]
        count, template = deployment.spec.role(role).initial_replicas, stored["data"]["template"]
        if role == "experts":
            shards = stored["data"]["shards"]
            found += [manifests.stateful_set(deployment, g, revision, template, shards) for g in range(count)]
        else:
            found.append(manifests.deployment(deployment, role, template, count))
        if deployment.spec.role(role).scaling:
            found.append(manifests.role_scaler(deployment, role, create=True))
    download = manifests.download_job(deployment, download_key(deployment))
    found += [download] if download else []
    found.append(manifests.check_job(deployment, check_key(deployment)))
    holding = ShardPlacement.model_validate({"name": "s-0", "holdings": [{"layers": "3-77", "experts": "0-63"}]})
    return [*found, manifests.expert_placement(deployment, 1, "64/256", [holding])]


def pod_templates(objects: list[Manifest]) -> list[Manifest]:
    """The pod template of every workload and Job."""
    return [one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "StatefulSet", "Job")]
