"""Constant load from a pod of the cluster, and what is wrong with the answers."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import support_asker
from cluster import kind_cluster
from support_asker import QUESTIONS, Said, Tokens
from support_kind import Served, apply, wait_for


class Load:
    """A pod that asks without pause, in every way; as a context manager it asks inside the block."""

    def __init__(self, name: str, served: Served, ways: dict[str, int], wide: dict[str, int]) -> None:
        """Take how many clients of each way ask all questions, and how many ask the last one alone."""
        self._name, self._namespace = name, served.namespace
        address = {"http": served.name, "grpc": f"{served.name}:9000"}
        plan = {**address, "questions": QUESTIONS, "ways": ways, "last": wide, "step": 5}
        self._pod = support_asker.pod(name, served.namespace, plan)
        self._read = 0

    def __enter__(self) -> Self:
        apply(self._pod)
        wait_for(lambda: len(self._said()) > 3, "the load pod has its first answers")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kind_cluster.kubectl("delete", "pod", "-n", self._namespace, self._name, "--grace-period=1")

    def fresh(self, at_least: int = 0) -> list[Said]:
        """Return the answers since the last call, once there are `at_least` so many."""
        wait_for(lambda: len(self._said()) - self._read >= at_least, f"{at_least} more answers")
        said = self._said()
        found, self._read = said[self._read :], len(said)
        return found

    def _said(self) -> list[Said]:
        return support_asker.read(kind_cluster.kubectl("logs", "-n", self._namespace, self._name))


def faults(said: list[Said], *models: list[Tokens]) -> list[str]:
    """Return a line for each answer that failed or is in whole that of none of the models."""
    found = []
    for one in said:
        if one.error:
            found.append(f"{one.way} question {one.question} at {one.begun:.1f}: {one.error}")
        elif list(one.tokens) not in [model[one.question] for model in models]:
            found.append(f"{one.way} question {one.question} at {one.begun:.1f}: tokens of no model: {one.tokens}")
    return found
