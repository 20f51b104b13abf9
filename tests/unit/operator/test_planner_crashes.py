"""Killed after any write of an update, the operator ends with the same objects, and never below coverage on the way."""

from __future__ import annotations

from typing import Any

import pytest

from glm5_operator.kinds import WRITTEN
from glm5_operator.manifests import Environment
from glm5_operator.plan import plan
from support_lifeless import DIGEST, without
from support_operator import Cluster, deployment, source

ROUNDS = 60
OF_A_LIFE = ("uid", "generation", "managedFields", "epoch", "observedGeneration", *DIGEST)
UPDATES: dict[str, dict[str, Any]] = {
    "model": {"model": source("good-two")},
    "image": {"images": {"runtime": "runtime:2", "gateway": "gateway:2"}},
    "shards": {"experts": {"replicas": 1, "shards": 4}},
    "groups": {"experts": {"replicas": 3, "shards": 2}},
    "counts": {"decode": {"replicas": 4}, "prefill": {"replicas": 2}, "gateway": {"replicas": 2}},
    "scaling": {"decode": {"scaling": {"minReplicas": 2, "maxReplicas": 4}}},
    "everything": {
        "model": source("good-two"),
        "images": {"runtime": "runtime:2", "gateway": "gateway:2"},
        "experts": {"replicas": 2, "shards": 4},
        "decode": {"replicas": 3},
    },
}


@pytest.mark.parametrize("update", [one for one in UPDATES if one != "everything"])
def test_killed_after_any_write_of_an_update_it_ends_with_the_same_objects(update: str) -> None:
    _kill_after_each(UPDATES[update])


@pytest.mark.long
def test_and_so_it_does_when_everything_is_updated_at_once() -> None:
    _kill_after_each(UPDATES["everything"])


def test_killed_after_every_write_of_an_update_it_ends_with_the_same_objects() -> None:
    for update in UPDATES.values():
        assert _live(update, killed_after=0)[1] == _live(update, killed_after=1, always=True)[1]


def _kill_after_each(update: dict[str, Any]) -> None:
    writes, whole = _live(update, killed_after=0)
    assert writes > 0
    for write in range(1, writes + 1):
        assert _live(update, killed_after=write)[1] == whole, f"killed after write {write} of {writes}"


def _live(update: dict[str, Any], killed_after: int, *, always: bool = False) -> tuple[int, dict[str, Any]]:
    """Create, update, and return how many writes the update took, and what is there in the end."""
    cluster = Cluster()
    _settle(cluster, {}, killed_after=0)
    writes = _settle(cluster, update, killed_after, always=always)
    return writes, {kind.kind: _lifeless(cluster, kind.kind) for kind in WRITTEN}


def _settle(cluster: Cluster, spec: dict[str, Any], killed_after: int, *, always: bool = False) -> int:
    """Do passes until nothing is left to do; the one with the deadly write, or each of them, ends with it."""
    wanted, writes, life = deployment(**spec), 0, 0
    for _ in range(ROUNDS * (10 if always else 1)):
        for step in plan(wanted, cluster.world(), Environment()).steps:
            served = cluster.serving()
            cluster.do(step)
            assert cluster.serving() or not served, f"service ended with {step}"
            writes, life = writes + 1, life + 1
            if life == killed_after:
                life = 0 if always else life
                break
        served = cluster.serving()
        cluster.tick()
        assert cluster.serving() or not served
        found = plan(wanted, cluster.world(), Environment())
        if not found.steps and not found.waits and not cluster.leaving:
            return writes
    raise AssertionError(f"never settled: {found}")


def _lifeless(cluster: Cluster, kind: str) -> dict[str, Any]:
    """Return the objects of a kind without identities and without the count of placements."""
    return {name: without(live, OF_A_LIFE) for name, live in cluster.all(kind).items()}
