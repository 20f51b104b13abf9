"""A deployment that is right, and many that are wrong in one thing each."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]


class _Drop:
    """Stands for: take this field away."""


DROP = _Drop()


def right(name: str = "right", namespace: str = "default") -> Manifest:
    """Return a deployment that sets nearly every field, all of them rightly."""
    return {
        "apiVersion": "serving.glm5.io/v1alpha1",
        "kind": "GLM5Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {
                "revision": "1",
                "servedNames": ["glm-5", "zai-org/GLM-5"],
                "source": {"persistentVolumeClaim": {"claimName": "model", "path": "checkpoints/glm-5"}},
            },
            "images": {"runtime": "registry.example/glm5/runtime:1", "gateway": "registry.example/glm5/gateway:1"},
            "imagePullSecrets": [{"name": "registry"}],
            "gateway": {"replicas": 1, "apiKeys": {"name": "keys", "key": "keys.txt"}},
            "prefill": {"scaling": {"minReplicas": 1, "maxReplicas": 4}},
            "decode": {
                "replicas": 2,
                "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "1.5Gi"}},
                "accelerator": {"type": "nvidia", "count": 1, "runtimeClassName": "nvidia"},
                "placement": {
                    "nodeSelector": {"disk": "fast"},
                    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                },
                "pod": {"env": [{"name": "OMP_NUM_THREADS", "value": "2"}], "sharedMemory": "1Gi"},
            },
            "experts": {"shards": 4, "replicas": 2, "rollout": {"strategy": "Replace"}},
            "service": {"type": "NodePort", "httpNodePort": 30080, "grpcNodePort": 30090},
            "labels": {"team": "models"},
            "telemetry": {"otlpEndpoint": "http://collector.monitoring:4318", "samplePercent": 10},
        },
    }


@dataclass(frozen=True)
class Wrong:
    """A change that makes `right` wrong."""

    path: str
    """Field below the object, for example spec.experts.shards."""
    value: Any
    field: str
    """Field that the refusal names."""
    words: str
    """Words that are in both refusals, that of the API server and that of `glm5 up`; empty where a schema says it."""

    def manifest(self, namespace: str = "default") -> Manifest:
        """Return the whole wrong deployment."""
        found = right("wrong", namespace)
        *parents, last = self.path.split(".")
        place = found
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        if self.value is DROP:
            del place[last]
        else:
            place[last] = copy.deepcopy(self.value)
        return found


def _hub(**change: Any) -> Manifest:
    return {"huggingFace": {"repo": "zai-org/GLM-5", "revision": "v1", "cacheClaim": "cache", **change}}


_MODEL, _CLAIM = "spec.model", "spec.model.source.persistentVolumeClaim"
_DECODE, _EXPERTS = "spec.decode", "spec.experts"
_TWO = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]

WRONG = [
    Wrong("metadata.name", "a" * 33, "", "more than 32 characters"),
    Wrong("metadata.name", "1st", "", "begins with a letter"),
    Wrong("metadata.name", "a.b", "", "begins with a letter"),
    Wrong("metadata.name", "toy-decode", "", "those of another deployment's Services"),
    Wrong("spec", DROP, "spec", ""),
    Wrong(_MODEL, DROP, _MODEL, ""),
    Wrong(f"{_MODEL}.revision", DROP, f"{_MODEL}.revision", ""),
    Wrong(f"{_MODEL}.revision", "a/b", f"{_MODEL}.revision", ""),
    Wrong(f"{_MODEL}.servedNames", [], f"{_MODEL}.servedNames", ""),
    Wrong(f"{_MODEL}.servedNames", ["a", "a"], _MODEL, "holds a name twice"),
    Wrong(f"{_MODEL}.servedNames", ["a b"], f"{_MODEL}.servedNames[0]", ""),
    Wrong(f"{_MODEL}.source", {}, f"{_MODEL}.source", "exactly one of persistentVolumeClaim and huggingFace"),
    Wrong(f"{_MODEL}.source.huggingFace", _hub()["huggingFace"], f"{_MODEL}.source", "exactly one of persistentVol"),
    Wrong(f"{_CLAIM}.path", "/abs", _CLAIM, "relative to the root of the volume"),
    Wrong(f"{_CLAIM}.path", "a/../../b", _CLAIM, "relative to the root of the volume"),
    Wrong(f"{_CLAIM}.claimName", "Model", f"{_CLAIM}.claimName", ""),
    Wrong(f"{_MODEL}.source", _hub(repo="GLM-5"), f"{_MODEL}.source.huggingFace.repo", ""),
    Wrong(f"{_MODEL}.source", _hub(cacheClaim=""), f"{_MODEL}.source.huggingFace.cacheClaim", ""),
    Wrong(f"{_MODEL}.source", _hub(endpoint="ftp://hub"), f"{_MODEL}.source.huggingFace.endpoint", ""),
    Wrong("spec.images.runtime", DROP, "spec.images.runtime", ""),
    Wrong("spec.images.gateway", "two words", "spec.images.gateway", ""),
    Wrong("spec.images.pullPolicy", "Sometimes", "spec.images.pullPolicy", ""),
    Wrong("spec.imagePullSecrets", [{"name": "a"}, {"name": "a"}], "spec", "imagePullSecrets names a Secret twice"),
    Wrong("spec.gateway", DROP, "spec.gateway", ""),
    Wrong("spec.gateway.replicas", DROP, "spec.gateway", "exactly one of replicas and scaling"),
    Wrong("spec.prefill.replicas", 1, "spec.prefill", "exactly one of replicas and scaling"),
    Wrong("spec.prefill.scaling.minReplicas", 5, "spec.prefill.scaling", "minReplicas is above maxReplicas"),
    Wrong("spec.prefill.scaling.maxReplicas", DROP, "spec.prefill.scaling.maxReplicas", ""),
    Wrong("spec.prefill.scaling.mode", "Automatic", "spec.prefill.scaling.mode", ""),
    Wrong(f"{_DECODE}.replicas", -1, f"{_DECODE}.replicas", ""),
    Wrong(f"{_DECODE}.replicas", "2", f"{_DECODE}.replicas", ""),
    Wrong(f"{_DECODE}.drainSeconds", -1, f"{_DECODE}.drainSeconds", ""),
    Wrong(f"{_DECODE}.cacheTokens", 63, f"{_DECODE}.cacheTokens", ""),
    Wrong(f"{_DECODE}.resources.requests.memory", "1GB", f"{_DECODE}.resources.requests.memory", ""),
    Wrong(f"{_DECODE}.resources.requests.memory", "2Gi", f"{_DECODE}.resources", "more than limits allows"),
    Wrong(f"{_DECODE}.resources.requests", {"nvidia.com/gpu": 1}, f"{_DECODE}.resources", "requests knows cpu, memory"),
    Wrong(f"{_DECODE}.resources.limits", {"nvidia.com/gpu": 1}, f"{_DECODE}.resources", "limits knows cpu, memory"),
    Wrong(f"{_DECODE}.accelerator.type", "gpu", f"{_DECODE}.accelerator.type", ""),
    Wrong(f"{_DECODE}.accelerator.count", 0, f"{_DECODE}.accelerator.count", ""),
    Wrong(f"{_DECODE}.accelerator", {"type": "cpu", "count": 1}, f"{_DECODE}.accelerator", "type cpu has none"),
    Wrong(
        f"{_DECODE}.accelerator",
        {"type": "cpu", "resourceName": "nvidia.com/gpu"},
        f"{_DECODE}.accelerator",
        "resourceName names a device",
    ),
    Wrong(f"{_DECODE}.accelerator.resourceName", "gpu", f"{_DECODE}.accelerator.resourceName", ""),
    Wrong(f"{_DECODE}.accelerator.hostDriver", "Mount", f"{_DECODE}.accelerator", "ascend-a2 and ascend-a3 only"),
    Wrong(
        f"{_DECODE}.placement.tolerations.0.value",
        "x",
        f"{_DECODE}.placement.tolerations[0]",
        "operator Exists has no value",
    ),
    Wrong(f"{_DECODE}.placement.tolerations", [{}], f"{_DECODE}.placement.tolerations[0]", "needs a key"),
    Wrong(
        f"{_DECODE}.placement.tolerations.0.tolerationSeconds",
        5,
        f"{_DECODE}.placement.tolerations[0]",
        "needs effect NoExecute",
    ),
    Wrong(f"{_DECODE}.pod.env", [{"name": "GLM5_NAME", "value": "x"}], f"{_DECODE}.pod.env[0]", "set by the operator"),
    Wrong(f"{_DECODE}.pod.env", _TWO, f"{_DECODE}.pod", "sets a variable twice"),
    Wrong(f"{_DECODE}.pod.env", [{"name": "A-B", "value": "x"}], f"{_DECODE}.pod.env[0].name", ""),
    Wrong(f"{_DECODE}.pod.labels", {"serving.glm5.io/role": "x"}, f"{_DECODE}.pod", "labels are the operator's"),
    Wrong(f"{_DECODE}.pod.hostNetwork", True, f"{_DECODE}.pod.hostNetwork", ""),
    Wrong(f"{_DECODE}.pod.securityContext", {}, f"{_DECODE}.pod.securityContext", ""),
    Wrong(f"{_DECODE}.pod.serviceAccountName", "admin", f"{_DECODE}.pod.serviceAccountName", ""),
    Wrong(f"{_DECODE}.pod.volumes", [{"name": "x", "hostPath": {"path": "/"}}], f"{_DECODE}.pod.volumes", ""),
    Wrong(f"{_EXPERTS}.shards", DROP, f"{_EXPERTS}.shards", ""),
    Wrong(f"{_EXPERTS}.shards", 0, f"{_EXPERTS}.shards", ""),
    Wrong(f"{_EXPERTS}.shards", 257, f"{_EXPERTS}.shards", ""),
    Wrong(f"{_EXPERTS}.replicas", 1, _EXPERTS, "Replace needs at least 2 replicas"),
    Wrong(f"{_EXPERTS}.replyMode", "Reduced", "spec", "needs numerics: fast"),
    Wrong("spec.numerics", "exact", "spec.numerics", ""),
    Wrong("spec.dtype", "float16", "spec.dtype", ""),
    Wrong("spec.detectionSeconds", 0, "spec.detectionSeconds", ""),
    Wrong("spec.paused", "yes", "spec.paused", ""),
    Wrong("spec.restart.id", "x" * 64, "spec.restart.id", ""),
    Wrong("spec.service.type", "ClusterIP", "spec.service", "need type NodePort or LoadBalancer"),
    Wrong("spec.service.grpcNodePort", 30080, "spec.service", "are the same port"),
    Wrong("spec.labels", {"app.kubernetes.io/name": "x"}, "spec", "labels are the operator's"),
    Wrong("spec.labels.team", "a b", "spec.labels.team", ""),
    Wrong("spec.telemetry.otlpEndpoint", "collector:4318", "spec.telemetry.otlpEndpoint", ""),
    Wrong("spec.telemetry.samplePercent", 101, "spec.telemetry.samplePercent", ""),
    Wrong("spec.tls", {"mode": "Mutual"}, "spec.tls.mode", ""),
    Wrong("spec.prefil", {}, "spec.prefil", ""),
]
