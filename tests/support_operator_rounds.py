"""Passes of the planner over the model of a cluster."""

from __future__ import annotations

from typing import Any

from glm5_operator.manifests import Environment
from glm5_operator.plan import plan
from glm5_operator.steps import Plan
from support_operator import Cluster, deployment


def look(cluster: Cluster, **spec: Any) -> Plan:
    return plan(deployment(**spec), cluster.world(), Environment())


def go_on(cluster: Cluster, **spec: Any) -> None:
    """Do one pass and let the cluster go one step."""
    for step in look(cluster, **spec).steps:
        cluster.do(step)
    cluster.tick()


def settle(cluster: Cluster, **spec: Any) -> None:
    for _ in range(60):
        go_on(cluster, **spec)
        found = look(cluster, **spec)
        if not found.steps and not found.waits:
            assert cluster.serving()
            return
    raise AssertionError(f"never settled: {look(cluster, **spec)}")
