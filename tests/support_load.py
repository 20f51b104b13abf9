"""Constant load from a pod of the cluster, and what became of the pods that left meanwhile."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

import httpx

import support_asker
from cluster import kind_cluster
from support_asker import Said, Tokens
from support_kind import Object, Repeated, Served, apply, wait_for

POD = "load"
LAST_LOOKS = 3
PROOFS = {
    "gateway": "glm5_requests_in_flight",
    "decode": "glm5_requests_in_flight",
    "prefill": "glm5_requests_in_flight",
    "experts": "glm5_experts_streams",
}
"""Role to the metric that says how many streams a process has open."""


class Load:
    """A pod that asks without pause, in every way; as a context manager it asks inside the block."""

    def __init__(self, namespace: str, service: str, asked: list[Object], ways: dict[str, int]) -> None:
        self._namespace = namespace
        plan = {"http": service, "grpc": f"{service}:9000", "questions": asked, "ways": ways, "step": 5}
        self._pod = support_asker.pod(POD, namespace, plan)
        self._read = 0

    def __enter__(self) -> Self:
        apply(self._pod)
        wait_for(lambda: len(self._said()) > 3, "the load pod has its first answers")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kind_cluster.kubectl("delete", "pod", "-n", self._namespace, POD, "--grace-period=1")

    def fresh(self, at_least: int = 0) -> list[Said]:
        """Return the answers since the last call, once there are `at_least` so many."""
        wait_for(lambda: len(self._said()) - self._read >= at_least, f"{at_least} more answers")
        said = self._said()
        found, self._read = said[self._read :], len(said)
        return found

    def _said(self) -> list[Said]:
        return support_asker.read(kind_cluster.kubectl("logs", "-n", self._namespace, POD))


def faults(said: list[Said], *models: list[Tokens]) -> list[str]:
    """Return a line for each answer that failed or is in whole that of none of the models."""
    found = []
    for one in said:
        if one.error:
            found.append(f"{one.way} question {one.question} at {one.begun:.1f}: {one.error}")
        elif list(one.tokens) not in [model[one.question] for model in models]:
            found.append(f"{one.way} question {one.question} at {one.begun:.1f}: tokens of no model: {one.tokens}")
    return found


class Streams(Repeated):
    """Looks again and again how many streams each pod has open; as a context manager, inside the block."""

    def __init__(self, served: Served) -> None:
        super().__init__(self._look_at_all)
        self._served = served
        self._looks: dict[str, list[float]] = {}
        """Pod to the number of streams at each look up to the first at which it had been told to leave."""
        self._leaving: set[str] = set()

    def __enter__(self) -> Self:
        self._look_at_all()
        return super().__enter__()

    def last(self, pod: str) -> float:
        """Return the most streams that a pod had at the last looks when it was told to leave; -1 if nobody looked."""
        return max(self._looks.get(pod, [-1.0])[-LAST_LOOKS:])

    def _look_at_all(self) -> None:
        for pod in self._served.pods():
            name, role = pod["metadata"]["name"], pod["metadata"]["labels"]["serving.glm5.io/role"]
            if name in self._leaving:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                self._leaving.add(name)
            if (found := self._metric(name, PROOFS[role])) is not None:
                self._looks.setdefault(name, []).append(found)

    def _metric(self, pod: str, metric: str) -> float | None:
        """Return the sum of a metric over its labels; None if the process does not answer."""
        try:
            page = self._served.admin(pod, "/metrics").text
        except httpx.HTTPError:
            return None
        return sum(map(float, re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", page, re.MULTILINE)))
