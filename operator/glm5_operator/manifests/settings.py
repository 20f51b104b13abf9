"""The settings file of each role as the deployment asks for it."""

import hashlib
import json
import math
from typing import Any

from glm5_operator import names
from glm5_operator.manifests import base, matrix
from glm5_spec.resource import GLM5Deployment
from glm5_spec.resource.quantity import number
from glm5_spec.resource.roles import ComputeRole
from glm5_spec.settings import (
    Device,
    Discovery,
    GatewaySettings,
    ModelRoleSettings,
    RoleName,
    RoleSettings,
    ShardSettings,
    Telemetry,
    WorkerSettings,
)

_DEVICES: dict[str, Device] = {"cpu": "cpu", "nvidia": "cuda", "ascend-a2": "npu", "ascend-a3": "npu"}


def settings(deployment: GLM5Deployment, role: RoleName, revision: str) -> RoleSettings:
    """Return the settings of the pods of a role; name, host, shard and group come from each pod's environment."""
    if role == "gateway":
        return GatewaySettings.model_validate(_common(deployment, role, revision) | _gateway(deployment))
    shared = _common(deployment, role, revision) | _compute(deployment, role)
    if role == "experts":
        shards = deployment.spec.experts.shards
        return ShardSettings.model_validate(shared | {"shard": 0, "num_shards": shards})
    return WorkerSettings.model_validate(shared | _worker(deployment, role))


def text(one: RoleSettings) -> str:
    """Return the JSON of the file.

    What equals a default is left out: an image that does not know a newer field then takes the file all the same.
    """
    required = {"role", "name"}
    fields = one.model_dump(mode="json", exclude_defaults=True) | one.model_dump(mode="json", include=required)
    return json.dumps(fields, indent=1, sort_keys=True)


def weight_version(deployment: GLM5Deployment) -> int:
    """Return a number from 1 to 2^31 for the model's revision and source.

    Two checkpoints of equal shape have the same digest; this keeps pods of different revisions apart all the same.
    """
    model = deployment.spec.model
    source = json.dumps(model.source.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    digest = hashlib.sha256(f"{model.revision}\n{source}".encode()).digest()
    return 1 + (int.from_bytes(digest[:4], "big") >> 1)


def threads(section: ComputeRole) -> int:
    """Return the threads of a process: as asked for, else what the CPU limit or request allows, at least 1."""
    if section.threads is not None:
        return section.threads
    cpu = section.resources.limits.get("cpu", section.resources.requests.get("cpu", 1))
    return max(1, math.ceil(number(cpu)))


def model_path(deployment: GLM5Deployment) -> str:
    """Return the folder of the checkpoint inside the pods."""
    path = deployment.spec.model.source.path.strip("/")
    return base.MODEL_FOLDER if path == "." else f"{base.MODEL_FOLDER}/{path}"


def _common(deployment: GLM5Deployment, role: RoleName, revision: str) -> dict[str, Any]:
    spec = deployment.spec
    return {
        "role": role,
        "deployment": deployment.metadata.uid,
        "name": f"{deployment.metadata.name}-{role}",
        "role_revision": revision,
        "host": "0.0.0.0",
        "grpc_port": base.GRPC_PORT,
        "admin_port": base.ADMIN_PORT,
        "discovery": _discovery(deployment, role),
        "detection_seconds": spec.detection_seconds,
        "drain_seconds": spec.role(role).drain_seconds,
        "telemetry": _telemetry(deployment),
    }


def _discovery(deployment: GLM5Deployment, role: RoleName) -> Discovery:
    name, namespace = deployment.metadata.name, deployment.metadata.namespace
    hosts = {other: f"{names.headless_service(name, other)}.{namespace}.svc" for other in matrix.peers(role)}
    return Discovery(dns={other: f"{host}:{base.GRPC_PORT}" for other, host in hosts.items()})


def _telemetry(deployment: GLM5Deployment) -> Telemetry:
    wanted = deployment.spec.telemetry
    return Telemetry(
        otlp_endpoint=wanted.otlp_endpoint,
        sample_ratio=wanted.sample_percent / 100,
        json_logs=wanted.log_format == "Json",
    )


def _gateway(deployment: GLM5Deployment) -> dict[str, Any]:
    section = deployment.spec.gateway
    return {
        "model_path": model_path(deployment),
        "served_names": deployment.spec.model.served_names,
        "http_port": base.HTTP_PORT,
        "api_key_file": f"{base.KEYS_FOLDER}/{base.KEYS_FILE}" if section.api_keys else None,
        "max_queue": section.max_queue,
        "max_running": section.max_running,
        "request_timeout_seconds": section.request_timeout_seconds,
        "retry_seconds": section.retry_seconds,
    }


def _compute(deployment: GLM5Deployment, role: RoleName) -> dict[str, Any]:
    section = deployment.spec.compute_role(role)
    fields = {
        "model_path": model_path(deployment),
        "device": _DEVICES[section.accelerator.type],
        "dtype": deployment.spec.dtype,
        "numerics": deployment.spec.numerics,
        "weight_version": weight_version(deployment),
        "num_threads": threads(section),
    }
    assert fields.keys() <= ModelRoleSettings.model_fields.keys()
    return fields


def _worker(deployment: GLM5Deployment, role: RoleName) -> dict[str, Any]:
    spec = deployment.spec
    section = spec.decode if role == "decode" else spec.prefill
    fields = {
        "cache_tokens": section.cache_tokens,
        "max_num_seqs": section.max_sequences,
        "max_step_tokens": section.max_step_tokens,
        "max_queue": section.max_queue,
        "reply_mode": spec.experts.reply_mode.lower(),
    }
    return fields | ({"local_prefill_tokens": spec.decode.local_prefill_tokens} if role == "decode" else {})
