"""NetworkPolicies: what the matrix does not name cannot connect."""

from typing import Any
from urllib.parse import urlsplit

from glm5_operator import names
from glm5_operator.manifests import base, matrix
from glm5_operator.manifests.base import Environment, Manifest
from glm5_spec.resource import ROLE_NAMES, GLM5Deployment
from glm5_spec.settings import RoleName

_DNS_PORTS = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
# Where NodeLocal DNSCache listens; it is no pod, so a selector of pods would miss it.
_NODE_LOCAL_DNS = "169.254.20.10/32"
_NAMESPACE = "kubernetes.io/metadata.name"


def network_policies(deployment: GLM5Deployment, environment: Environment) -> list[Manifest]:
    """Return one policy per role and one per kind of Job."""
    policies = [_of_role(deployment, role, environment) for role in ROLE_NAMES]
    policies.append(_policy(deployment, "check", {names.JOB_LABEL: "check"}, [], []))
    if hub := deployment.spec.model.source.hugging_face:
        egress = [_dns(), *_outside(hub.endpoint)]
        policies.append(_policy(deployment, "download", {names.JOB_LABEL: "download"}, [], egress))
    return policies


def _of_role(deployment: GLM5Deployment, role: RoleName, environment: Environment) -> Manifest:
    endpoint = deployment.spec.telemetry.otlp_endpoint
    others = [{"podSelector": {"matchLabels": names.selector(deployment.metadata.name, r)}} for r in matrix.peers(role)]
    ingress = [
        {"from": others, "ports": _tcp(base.GRPC_PORT)},
        {"from": _watchers(environment), "ports": _tcp(base.ADMIN_PORT)},
    ]
    if role == "gateway":
        ingress.append({"ports": _tcp(base.HTTP_PORT, base.GRPC_PORT)})
    egress = [{"to": others, "ports": _tcp(base.GRPC_PORT)}, _dns(), *(_outside(endpoint) if endpoint else [])]
    return _policy(deployment, role, {names.ROLE_LABEL: role}, ingress, egress)


def _watchers(environment: Environment) -> list[Manifest]:
    """Return who may ask the admin port: the operator's pods, and everybody in a namespace for metrics."""
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE: environment.operator_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "glm5-operator"}},
    }
    metrics = [{"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}} for name in environment.metrics_namespaces]
    return [operator, *metrics]


def _dns() -> Manifest:
    return {"to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": _NODE_LOCAL_DNS}}], "ports": _DNS_PORTS}


def _outside(url: str) -> list[Manifest]:
    """Return leave to reach the host of `url`.

    A Service's port is translated before most enforcers look, so for a name inside the cluster every port of its
    namespace is open; for any other name the port is, wherever it leads.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    rules: list[Manifest] = [{"ports": _tcp(port)}]
    labels = (parts.hostname or "").split(".")
    if len(labels) == 2 or labels[2:3] == ["svc"]:
        rules.append({"to": [{"namespaceSelector": {"matchLabels": {_NAMESPACE: labels[1]}}}]})
    return rules


def _tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _policy(
    deployment: GLM5Deployment, what: str, chosen: dict[str, str], ingress: list[Manifest], egress: list[Manifest]
) -> Manifest:
    """Return a policy for pods of the deployment with the labels `chosen`; without rules nothing passes."""
    name = deployment.metadata.name
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": {**names.selector(name), **chosen}},
        "policyTypes": ["Ingress", "Egress"],
    }
    # The API server does not keep an empty list: written again it would be a change for ever.
    spec |= {key: rules for key, rules in (("ingress", ingress), ("egress", egress)) if rules}
    meta = base.metadata(deployment, names.network_policy(name, what))
    return base.manifest("networking.k8s.io/v1", "NetworkPolicy", meta, spec=spec)
