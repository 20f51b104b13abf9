"""What the pods of a role ask of the cluster: resources, accelerator, placement, and a few overrides."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from glm5_spec.resource.base import ResourceModel, Rule
from glm5_spec.resource.quantity import Quantity, number
from glm5_spec.resource.text import LabelValue, ObjectName, QualifiedName

AcceleratorType = Literal["cpu", "nvidia", "ascend-a2", "ascend-a3"]
RESOURCE_NAMES = ("cpu", "memory", "ephemeral-storage")
OWN_DOMAINS = ("serving.glm5.io/", "app.kubernetes.io/")
_KEYS = f"key in [{', '.join(repr(name) for name in RESOURCE_NAMES)}]"
_OWN = " || ".join(f"key.startsWith('{domain}')" for domain in OWN_DOMAINS)
Amounts = Annotated[dict[str, Quantity], Field(max_length=len(RESOURCE_NAMES))]
Labels = Annotated[dict[QualifiedName, LabelValue], Field(max_length=32)]
Annotations = Annotated[dict[QualifiedName, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=32)]


def own_labels_rule(field: str) -> Rule:
    """Return the rule that labels in `field` leave the operator's domains alone."""
    return Rule(
        f"!has(self.{field}) || self.{field}.all(key, !({_OWN}))",
        f"{field} has a key in {' or '.join(OWN_DOMAINS)}; these labels are the operator's",
        lambda self: not any(key.startswith(OWN_DOMAINS) for key in getattr(self, field)),
    )


class Resources(ResourceModel):
    """CPU and memory of one pod. Devices are asked for by `accelerator`."""

    requests: Amounts = Field(default_factory=dict)
    """What the scheduler sets aside."""
    limits: Amounts = Field(default_factory=dict)
    """What the pod may use at most."""

    RULES = (
        Rule(
            f"!has(self.requests) || self.requests.all(key, {_KEYS})",
            "requests knows cpu, memory and ephemeral-storage only; devices are asked for by accelerator",
            lambda self: set(self.requests) <= set(RESOURCE_NAMES),
        ),
        Rule(
            f"!has(self.limits) || self.limits.all(key, {_KEYS})",
            "limits knows cpu, memory and ephemeral-storage only; devices are asked for by accelerator",
            lambda self: set(self.limits) <= set(RESOURCE_NAMES),
        ),
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(key, !(key in self.limits) || "
            "quantity(string(self.requests[key])).compareTo(quantity(string(self.limits[key]))) <= 0)",
            "requests asks for more than limits allows",
            lambda self: all(number(v) <= number(self.limits.get(k, v)) for k, v in self.requests.items()),
        ),
    )


class Accelerator(ResourceModel):
    """What the pods compute on."""

    type: AcceleratorType = "cpu"
    """Kind of device; "cpu" is none."""
    count: Annotated[int, Field(ge=1, le=16)] | None = None
    """Devices of one pod; 1 if not given."""
    resource_name: (
        Annotated[
            str,
            StringConstraints(
                pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=128
            ),
        ]
        | None
    ) = None
    """Name under which the device plugin offers the devices. If not given: nvidia.com/gpu or huawei.com/Ascend910."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass that puts the driver into the container, where the cluster needs one."""
    host_driver: Literal["None", "Mount"] = "None"
    """"Mount" mounts Ascend's driver folder of the node (hostPath, read-only), for clusters without a runtime class.
    A namespace that enforces Pod Security "restricted" refuses such pods."""

    RULES = (
        Rule(
            "self.type != 'cpu' || !has(self.count)",
            "count counts devices, and type cpu has none; remove count or choose another type",
            lambda self: self.type != "cpu" or self.count is None,
        ),
        Rule(
            "self.type != 'cpu' || !has(self.resourceName)",
            "resourceName names a device, and type cpu has none; remove resourceName or choose another type",
            lambda self: self.type != "cpu" or self.resource_name is None,
        ),
        Rule(
            "self.type.startsWith('ascend') || self.hostDriver == 'None'",
            "hostDriver Mount exists for ascend-a2 and ascend-a3 only",
            lambda self: self.type.startswith("ascend") or self.host_driver == "None",
        ),
    )


class Toleration(ResourceModel):
    """A taint that the pods tolerate."""

    key: QualifiedName | None = None
    """Key of the taint; none, with operator Exists, means every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """How `value` is compared."""
    value: LabelValue | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; none means every effect."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long a NoExecute taint is tolerated; none means for ever."""

    RULES = (
        Rule(
            "self.operator == 'Equal' || !has(self.value)",
            "a toleration with operator Exists has no value",
            lambda self: self.operator == "Equal" or self.value is None,
        ),
        Rule(
            "self.operator == 'Exists' || has(self.key)",
            "a toleration with operator Equal needs a key",
            lambda self: self.operator == "Exists" or self.key is not None,
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect NoExecute",
            lambda self: self.toleration_seconds is None or self.effect == "NoExecute",
        ),
    )


class Spread(ResourceModel):
    """How evenly the pods of the role are spread."""

    topology_key: QualifiedName = "kubernetes.io/hostname"
    """Label of nodes; nodes with the same value are one place."""
    max_skew: Annotated[int, Field(ge=1, le=256)] = 1
    """By how many pods two places may differ."""
    when_unsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"] = "ScheduleAnyway"
    """What happens to a pod that would make it worse."""


class Placement(ResourceModel):
    """On which nodes the pods run."""

    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(default_factory=list)
    """Taints that are tolerated."""
    spread: Annotated[list[Spread], Field(max_length=4)] = Field(default=[Spread()])
    """How the pods of the role are spread; by default over hosts, where possible."""
    scheduler_name: ObjectName | None = None
    """Scheduler, for example volcano."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""


class EnvironmentVariable(ResourceModel):
    """A variable in the environment of the container."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", min_length=1, max_length=128)]
    """Name; those that begin with GLM5_ are the operator's."""
    value: Annotated[str, StringConstraints(max_length=4096)]
    """Value, taken literally."""

    RULES = (
        Rule(
            "!self.name.startsWith('GLM5_')",
            "variables that begin with GLM5_ are set by the operator",
            lambda self: not self.name.startswith("GLM5_"),
        ),
    )


class PodOverrides(ResourceModel):
    """The few things about the pods that may be changed freely."""

    labels: Labels = Field(default_factory=dict)
    """Labels added to the pods of this role."""
    annotations: Annotations = Field(default_factory=dict)
    """Annotations added to the pods of this role."""
    env: Annotated[list[EnvironmentVariable], Field(max_length=64)] = Field(default_factory=list)
    """Variables added to the container, for example HCCL_BUFFSIZE."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm; none leaves the container runtime's (64 MiB)."""

    RULES = (
        own_labels_rule("labels"),
        Rule(
            "!has(self.env) || self.env.all(one, self.env.exists_one(other, other.name == one.name))",
            "env sets a variable twice",
            lambda self: len({one.name for one in self.env}) == len(self.env),
        ),
    )
