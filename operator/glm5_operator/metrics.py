"""The operator's own metrics; docs/operator.md lists them, and a test compares the two."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
PASSES = Counter("glm5_operator_passes", "Passes over one deployment, by result.", ["result"], registry=REGISTRY)
PASS_SECONDS = Histogram("glm5_operator_pass_seconds", "Length of a pass over one deployment.", registry=REGISTRY)
WRITES = Counter("glm5_operator_writes", "Writes to children, by kind and why.", ["kind", "why"], registry=REGISTRY)
STATUS_WRITES = Counter("glm5_operator_status_writes", "Writes of status.", registry=REGISTRY)
QUEUED = Gauge("glm5_operator_queued", "Deployments that wait for a pass.", registry=REGISTRY)
LEADER = Gauge("glm5_operator_leader", "1 while this replica holds the lease.", registry=REGISTRY)
DEPLOYMENTS = Gauge("glm5_operator_deployments", "Deployments that are served.", registry=REGISTRY)
WATCH_EVENTS = Counter("glm5_operator_watch_events", "Events from watches, by kind.", ["kind"], registry=REGISTRY)
POLLS = Counter("glm5_operator_polls", "Questions to /v1/state of pods, by result.", ["result"], registry=REGISTRY)
DEAF_SECONDS = Gauge(
    "glm5_operator_deaf_seconds",
    "For how long the API server has had news that our watch did not bring.",
    registry=REGISTRY,
)
CONDITION = Gauge(
    "glm5_operator_condition",
    "1 where a condition is True, 0 where not.",
    ["namespace", "name", "type"],
    registry=REGISTRY,
)
