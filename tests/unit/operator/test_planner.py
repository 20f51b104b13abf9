"""The order of a roll, and who decides about what: single decisions of the planner."""

from typing import Any

import pytest

from glm5_operator import manifests, objects
from glm5_operator.manifests import Environment
from glm5_operator.names import REVISION_LABEL
from glm5_operator.plan import plan
from glm5_operator.reasons import Reason
from glm5_operator.revision import role_revision
from glm5_operator.steps import Apply, Delete
from support_operator import Cluster, deployment, source
from support_operator_rounds import go_on, look, settle


@pytest.fixture
def cluster() -> Cluster:
    """A cluster in which `deployment()` serves."""
    found = Cluster()
    settle(found)
    return found


def test_the_check_comes_before_any_workload() -> None:
    steps = look(Cluster()).steps

    kinds = [step.manifest["kind"] for step in steps if isinstance(step, Apply)]
    assert "Job" in kinds
    assert not {"Deployment", "StatefulSet", "ControllerRevision"} & set(kinds)


def test_a_damaged_model_changes_no_workload(cluster: Cluster) -> None:
    for _ in range(4):
        go_on(cluster, model=source("bad-one"))

    found = look(cluster, model=source("bad-one"))
    assert [wait.reason for wait in found.waits] == [Reason.CHECK_FAILED]
    assert len(cluster.all("StatefulSet")) == 1
    assert cluster.serving()


def test_workers_roll_after_the_new_shards_serve_and_gateways_after_the_workers(cluster: Cluster) -> None:
    wanted = deployment(model=source("good-two"))
    order: list[str] = []
    for _ in range(30):
        for step in look(cluster, model=source("good-two")).steps:
            cluster.do(step)
            if isinstance(step, Apply) and step.why == "roll":
                order.append(objects.name(step.manifest))
                assert len(cluster.complete_sets(weights(cluster, wanted))) == 1, "the new shards serve"
        cluster.tick()

    assert order == ["demo-prefill", "demo-decode", "demo-gateway"]


def test_the_old_shards_stay_while_a_worker_of_their_compat_drains(cluster: Cluster) -> None:
    cluster.drain_ticks = 6
    old = set(cluster.all("StatefulSet"))
    seen = False
    for _ in range(40):
        go_on(cluster, model=source("good-two"))
        draining = [name for name in cluster.leaving if "decode" in name]
        if draining and cluster.all("StatefulSet").keys() > old:
            seen = True
            assert old <= set(cluster.all("StatefulSet"))

    assert seen
    assert not old & set(cluster.all("StatefulSet"))


def test_a_silent_worker_keeps_the_old_shards(cluster: Cluster) -> None:
    change = {"experts": {"replicas": 1, "shards": 4}}
    old = set(cluster.all("StatefulSet"))
    silent = [name for name in cluster.all("Pod") if "prefill" in name]
    for _ in range(10):
        for step in plan(deployment(**change), cluster.world(silent), Environment()).steps:
            cluster.do(step)
        cluster.tick()

    found = plan(deployment(**change), cluster.world(silent), Environment())
    assert old <= set(cluster.all("StatefulSet"))
    assert f"{silent[0]} does not answer" in found.waits[0].message

    for _ in range(4):
        go_on(cluster, **change)
    assert not old & set(cluster.all("StatefulSet"))


def test_more_shards_restart_nobody_else(cluster: Cluster) -> None:
    workers = {name for name in cluster.all("Pod") if "experts" not in name}
    for _ in range(12):
        go_on(cluster, experts={"replicas": 1, "shards": 4})

    assert {name for name in cluster.all("Pod") if "experts" not in name} == workers
    assert len([name for name in cluster.all("Pod") if "experts" in name]) == 4


def test_scaling_changes_no_template(cluster: Cluster) -> None:
    before = {name: live["spec"]["template"] for name, live in cluster.all("Deployment").items()}
    for _ in range(6):
        go_on(cluster, decode={"replicas": 5}, prefill={"replicas": 3}, gateway={"replicas": 2})

    assert {name: live["spec"]["template"] for name, live in cluster.all("Deployment").items()} == before


def test_replace_takes_down_one_group_at_a_time() -> None:
    cluster = Cluster()
    experts: dict[str, Any] = {"replicas": 3, "shards": 2, "rollout": {"strategy": "Replace"}}
    settle(cluster, experts=experts)
    changed = {**experts, "shards": 4}
    for _ in range(60):
        go_on(cluster, experts=changed)
        groups = [objects.label(one, "serving.glm5.io/group") for one in cluster.all("StatefulSet").values()]
        assert len(groups) in (2, 3)
        assert cluster.serving()

    assert {live["spec"]["replicas"] for live in cluster.all("StatefulSet").values()} == {4}


def test_replace_starts_the_group_that_is_lacking_before_it_takes_one_down(cluster: Cluster) -> None:
    experts: dict[str, Any] = {"replicas": 2, "shards": 4, "rollout": {"strategy": "Replace"}}
    settle(cluster, experts=experts)

    assert [live["spec"]["replicas"] for live in cluster.all("StatefulSet").values()] == [4, 4]


def test_another_version_of_the_renderer_changes_no_template(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = manifests.controller_revision

    def newer(*args: Any) -> dict[str, Any]:
        found = rendered(*args)
        found["data"]["template"]["metadata"]["annotations"] = {"new": "in this version"}
        return found

    monkeypatch.setattr(manifests, "controller_revision", newer)

    assert not look(cluster).steps


def test_going_back_uses_what_was_stored(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cluster.all("Deployment")["demo-decode"]["spec"]["template"]
    settle(cluster, restart={"id": "again"})
    assert cluster.all("Deployment")["demo-decode"]["spec"]["template"] != first

    monkeypatch.setattr(manifests.base, "ADMIN_PORT", 1)  # whatever would be rendered now
    settle(cluster)

    assert cluster.all("Deployment")["demo-decode"]["spec"]["template"] == first


def test_a_pause_stops_rolls_but_neither_repair_nor_scaling(cluster: Cluster) -> None:
    revision = role_revision(deployment(), "decode")
    changes = {"paused": True, "restart": {"id": "x"}, "decode": {"replicas": 3}}
    cluster.remove("Service", "demo")
    for _ in range(6):
        go_on(cluster, **changes)

    live = cluster.all("Deployment")["demo-decode"]
    assert live["spec"]["replicas"] == 3
    assert objects.label(live["spec"]["template"], REVISION_LABEL) == revision
    assert "demo" in cluster.all("Service")
    assert [wait.reason for wait in look(cluster, **changes).waits] == [Reason.PAUSED]


def test_a_bad_image_stops_and_a_good_one_goes_on_by_itself(cluster: Cluster) -> None:
    cluster.bad_images = {"bad"}
    bad = {"images": {"runtime": "bad", "gateway": "registry/gateway:1"}}
    for _ in range(6):
        go_on(cluster, **bad)
        assert cluster.serving()
    assert look(cluster, **bad).waits[0].reason in (Reason.CHECKING, Reason.IMAGE_PULL_FAILED)

    settle(cluster, images={"runtime": "registry/runtime:3", "gateway": "registry/gateway:1"})


def test_revisions_that_nobody_uses_are_kept_for_going_back_but_not_for_ever(cluster: Cluster) -> None:
    for number in range(14):
        settle(cluster, restart={"id": str(number)})
    for _ in range(4):  # until the last old pod, which mounts old settings, is gone
        go_on(cluster, restart={"id": "13"})

    stored = [live for live in cluster.all("ControllerRevision").values() if "-decode-" in objects.name(live)]
    assert len(stored) == 11
    assert len(cluster.all("ConfigMap")) == 4


def test_at_most_one_shard_set_goes_in_one_plan() -> None:
    cluster = Cluster()
    settle(cluster, experts={"replicas": 3, "shards": 2})

    steps = look(cluster, experts={"replicas": 1, "shards": 2}).steps

    assert len([step for step in steps if isinstance(step, Delete)]) == 1


def weights(cluster: Cluster, wanted: Any) -> str:
    """Return the compat of the wanted shards."""
    revision = role_revision(wanted, "experts")
    pods = cluster.all("Pod").values()
    return next(cluster.compat(pod) for pod in pods if objects.label(pod, REVISION_LABEL) == revision)
