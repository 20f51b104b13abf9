"""Jobs that run before any pod: one downloads the model, one checks it."""

from typing import Any

from glm5_operator import names
from glm5_operator.manifests import base, security
from glm5_operator.manifests.base import Manifest
from glm5_operator.manifests.settings import model_path
from glm5_operator.manifests.template import common, model_volume, placed
from glm5_spec.resource import GLM5Deployment
from glm5_spec.resource.source import HuggingFaceSource

TERMINATION_LOG = "/dev/termination-log"
_CHECK_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}}
_DOWNLOAD_RETRIES = 6
# The program has spoken: 1 is "the model is wrong", 2 "the call is wrong". Trying again changes neither.
_FINAL_EXIT_CODES = [1, 2]


def check_job(deployment: GLM5Deployment, key: str) -> Manifest:
    """Return the Job that looks whether the checkpoint can be served; its last words are a JSON report.

    Args:
        deployment: whose model.
        key: hash of what is checked; another one makes another Job.
    """
    args = [model_path(deployment), "--json", "--termination-log", TERMINATION_LOG]
    pod = _pod(deployment, "check", args, read_only=True)
    return _job(deployment, "check", key, pod, retries=2)


def download_job(deployment: GLM5Deployment, key: str) -> Manifest | None:
    """Return the Job that fills the volume from a hub; None where the model comes from a volume."""
    hub = deployment.spec.model.source.hugging_face
    if hub is None:
        return None
    args = [hub.repo, "--revision", hub.revision, "--folder", model_path(deployment)]
    args += ["--endpoint", hub.endpoint, "--termination-log", TERMINATION_LOG]
    pod = _pod(deployment, "download", args, read_only=False)
    # The volume is empty and its root belongs to root: let our group write there.
    pod["securityContext"] |= {"fsGroup": security.USER, "fsGroupChangePolicy": "OnRootMismatch"}
    pod["containers"][0]["env"] = _token(hub)
    return _job(deployment, "download", key, pod, retries=_DOWNLOAD_RETRIES)


def _pod(deployment: GLM5Deployment, what: str, args: list[str], *, read_only: bool) -> Manifest:
    container = {
        "name": what,
        "image": deployment.spec.images.runtime,
        "imagePullPolicy": deployment.spec.images.pull_policy,
        "command": ["python3", "-m", "glm5_cli", what],
        "args": args,
        "resources": _CHECK_RESOURCES,
        "volumeMounts": [
            {"name": "model", "mountPath": base.MODEL_FOLDER, "readOnly": read_only},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security.CONTAINER,
    }
    return {
        **common(deployment),
        **placed(deployment.spec.decode),  # nodes that can mount the volume
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [model_volume(deployment, read_only=read_only), {"name": "tmp", "emptyDir": {}}],
    }


def _token(hub: HuggingFaceSource) -> list[dict[str, Any]]:
    if hub.token_secret is None:
        return []
    secret = {"name": hub.token_secret.name, "key": hub.token_secret.key}
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}]


def _job(deployment: GLM5Deployment, what: str, key: str, pod: Manifest, retries: int) -> Manifest:
    extra = {names.JOB_LABEL: what}
    labels = {**deployment.spec.labels, **names.labels(deployment.metadata.name), **extra}
    final = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": _FINAL_EXIT_CODES}}
    spec = {
        "backoffLimit": retries,
        "podFailurePolicy": {"rules": [final]},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    meta = base.metadata(deployment, names.job(deployment.metadata.name, what, key), extra=extra)
    return base.manifest("batch/v1", "Job", meta, spec=spec)
