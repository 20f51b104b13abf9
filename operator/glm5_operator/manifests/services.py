"""Services: one for clients, and one without an address for each role, by which peers find each other."""

from typing import Any

from glm5_operator import names
from glm5_operator.manifests import base
from glm5_operator.manifests.base import Manifest
from glm5_spec.resource import GLM5Deployment
from glm5_spec.settings import RoleName

CLIENT_HTTP_PORT = 80
CLIENT_GRPC_PORT = 9000


def client_service(deployment: GLM5Deployment) -> Manifest:
    """Return the Service that clients use: HTTP on port 80, gRPC on port 9000."""
    wanted, name = deployment.spec.service, deployment.metadata.name
    ports = [
        _port("http", CLIENT_HTTP_PORT, "http", wanted.http_node_port),
        _port("grpc", CLIENT_GRPC_PORT, "kubernetes.io/h2c", wanted.grpc_node_port),
    ]
    meta = base.metadata(deployment, names.client_service(name), "gateway")
    if wanted.annotations:
        meta["annotations"] = dict(wanted.annotations)
    spec = {"type": wanted.type, "selector": names.selector(name, "gateway"), "ports": ports}
    return base.manifest("v1", "Service", meta, spec=spec)


def headless_service(deployment: GLM5Deployment, role: RoleName) -> Manifest:
    """Return the Service whose name lists every pod of a role, ready or not."""
    name = deployment.metadata.name
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": names.selector(name, role),
        "ports": [{"name": "grpc", "port": base.GRPC_PORT, "targetPort": "grpc", "protocol": "TCP"}],
    }
    meta = base.metadata(deployment, names.headless_service(name, role), role)
    return base.manifest("v1", "Service", meta, spec=spec)


def _port(name: str, port: int, protocol: str, node_port: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "port": port, "targetPort": name, "protocol": "TCP", "appProtocol": protocol}
    return found | ({"nodePort": node_port} if node_port else {})
