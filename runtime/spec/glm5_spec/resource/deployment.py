"""`GLM5Deployment`: what a user asks for. The CRD and a part of docs/operator.md are generated from these classes."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from glm5_spec.resource.base import ResourceModel, Rule
from glm5_spec.resource.metadata import API_VERSION, Metadata
from glm5_spec.resource.pods import Annotations, Labels, own_labels_rule
from glm5_spec.resource.roles import ComputeRole, DecodeRole, ExpertsRole, GatewayRole, PrefillRole, Role
from glm5_spec.resource.source import ModelSpec
from glm5_spec.resource.status import DeploymentStatus
from glm5_spec.resource.text import HttpUrl, Image, ObjectName
from glm5_spec.settings import RoleName

ROLE_NAMES: tuple[RoleName, ...] = ("gateway", "prefill", "decode", "experts")
MAX_NAME = 32
_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NodePort = Annotated[int, Field(ge=1, le=65535)]


class Images(ResourceModel):
    """The images of the pods. Charts fill them in."""

    runtime: Image
    """Image of prefill, decode, experts and of the Jobs that check and download."""
    gateway: Image
    """Image of the gateways."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When a node asks the registry."""


class ImagePullSecret(ResourceModel):
    """A Secret with credentials for a registry."""

    name: ObjectName
    """Name of the Secret, in the namespace of the deployment."""


class Service(ResourceModel):
    """The Service that clients use; its name is that of the deployment."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How it can be reached."""
    annotations: Annotations = Field(default_factory=dict)
    """Annotations, for example those of a cloud's load balancer."""
    http_node_port: NodePort | None = None
    """Port of every node for HTTP; if not given the cluster picks one."""
    grpc_node_port: NodePort | None = None
    """Port of every node for gRPC; if not given the cluster picks one."""

    RULES = (
        Rule(
            "self.type != 'ClusterIP' || (!has(self.httpNodePort) && !has(self.grpcNodePort))",
            "httpNodePort and grpcNodePort need type NodePort or LoadBalancer",
            lambda self: self.type != "ClusterIP" or (self.http_node_port is None and self.grpc_node_port is None),
        ),
        Rule(
            "!has(self.httpNodePort) || !has(self.grpcNodePort) || self.httpNodePort != self.grpcNodePort",
            "httpNodePort and grpcNodePort are the same port",
            lambda self: self.http_node_port is None or self.http_node_port != self.grpc_node_port,
        ),
    )


class TelemetrySpec(ResourceModel):
    """Where traces go, and how logs look."""

    otlp_endpoint: HttpUrl | None = None
    """Base URL for OTLP over HTTP, for example http://collector.monitoring:4318; without it there are no traces."""
    sample_percent: Annotated[int, Field(ge=0, le=100)] = 100
    """Share of requests that are traced."""
    log_format: Literal["Text", "Json"] = "Text"
    """A line of text or one JSON object for each event."""


class Tls(ResourceModel):
    """How the pods prove to each other who they are."""

    mode: Literal["Disabled"] = "Disabled"
    """"Disabled": by the network alone (see NetworkPolicies)."""


class Restart(ResourceModel):
    """Asks for new pods."""

    id: Annotated[str, StringConstraints(max_length=63)] = ""
    """Any text; a new one makes every role roll."""


class DeploymentSpec(ResourceModel):
    """What is wanted."""

    model: ModelSpec
    """The model that is served."""
    images: Images
    """The images of the pods."""
    image_pull_secrets: Annotated[list[ImagePullSecret], Field(max_length=16)] = Field(default_factory=list)
    """Secrets with credentials for the registry."""
    gateway: GatewayRole
    """The gateways."""
    prefill: PrefillRole
    """The prefill workers."""
    decode: DecodeRole
    """The decode workers."""
    experts: ExpertsRole
    """The expert shards."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the computation; "auto" is what the machine computes fastest."""
    numerics: Literal["invariant", "fast"] = "invariant"
    """"invariant": a token depends on nothing but its request; "fast": whatever the libraries do best."""
    detection_seconds: Annotated[int, Field(ge=1, le=60)] = 3
    """A peer without a sign of life for this long counts as dead."""
    paused: bool = False
    """True stops rollouts where they are; scaling and repair go on."""
    restart: Restart = Restart()
    """Asks for new pods."""
    service: Service = Service()
    """The Service that clients use."""
    labels: Labels = Field(default_factory=dict)
    """Labels added to every object and pod of the deployment."""
    telemetry: TelemetrySpec = TelemetrySpec()
    """Traces and logs."""
    tls: Tls = Tls()
    """How the pods prove to each other who they are."""

    RULES = (
        own_labels_rule("labels"),
        Rule(
            "self.experts.replyMode != 'Reduced' || self.numerics == 'fast'",
            "experts.replyMode Reduced changes bits and needs numerics: fast",
            lambda self: self.experts.reply_mode != "Reduced" or self.numerics == "fast",
        ),
        Rule(
            "!has(self.imagePullSecrets) || self.imagePullSecrets.all(one, "
            "self.imagePullSecrets.exists_one(other, other.name == one.name))",
            "imagePullSecrets names a Secret twice",
            lambda self: len({one.name for one in self.image_pull_secrets}) == len(self.image_pull_secrets),
        ),
    )

    def role(self, name: RoleName) -> Role:
        """Return the section of the role."""
        section: Role = getattr(self, name)
        return section

    def compute_role(self, name: RoleName) -> ComputeRole:
        """Return the section of a role that loads weights.

        Raises:
            ValueError: the role is the gateway, which loads none.
        """
        section = self.role(name)
        if not isinstance(section, ComputeRole):
            raise ValueError(f"{name} loads no weights")
        return section


class GLM5Deployment(ResourceModel):
    """An endpoint for one model: gateways, prefill workers, decode workers and expert shards."""

    KIND: ClassVar[str] = "GLM5Deployment"
    PLURAL: ClassVar[str] = "glm5deployments"

    api_version: Literal["serving.glm5.io/v1alpha1"] = API_VERSION
    """Version of this kind."""
    kind: Literal["GLM5Deployment"] = "GLM5Deployment"
    """Name of this kind."""
    metadata: Metadata
    """Name, namespace, labels."""
    spec: DeploymentSpec
    """What is wanted."""
    status: DeploymentStatus | None = None
    """What is there; written by the operator."""

    RULES = (
        Rule(
            f"self.metadata.name.size() <= {MAX_NAME}",
            f"the name has more than {MAX_NAME} characters; the names of its pods would not fit",
            lambda self: len(self.metadata.name) <= MAX_NAME,
        ),
        Rule(
            f"self.metadata.name.matches('{_NAME}')",
            "the name begins with a letter and has lower-case letters, digits and '-' only, since Services take it",
            lambda self: re.fullmatch(_NAME, self.metadata.name) is not None,
        ),
        Rule(
            " && ".join(f"!self.metadata.name.endsWith('-{role}')" for role in ROLE_NAMES),
            f"the name ends with -{', -'.join(ROLE_NAMES)}; these names are those of another deployment's Services",
            lambda self: not self.metadata.name.endswith(tuple(f"-{role}" for role in ROLE_NAMES)),
        ),
    )
