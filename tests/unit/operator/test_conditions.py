"""What conditions say about worlds, and which events follow."""

from typing import Any

import pytest

from glm5_operator import conditions, events, objects, status
from glm5_operator.conditions import Found
from glm5_operator.manifests import Environment
from glm5_operator.plan import plan
from glm5_operator.reasons import EventReason, Reason
from glm5_operator.steps import Wait
from glm5_operator.view import View
from glm5_operator.world import Refusal, World
from glm5_spec.resource import DeploymentStatus
from support_operator import Cluster, deployment
from support_operator_rounds import go_on, settle


@pytest.fixture
def cluster() -> Cluster:
    """A cluster in which `deployment()` serves."""
    found = Cluster()
    settle(found)
    return found


def test_a_settled_deployment_is_ready_and_serves(cluster: Cluster) -> None:
    view = look(cluster)

    assert said(view) == {
        "Ready": ("True", "AsSpecified"),
        "Serving": ("True", "Answering"),
        "Progressing": ("False", "Settled"),
        "ModelChecked": ("True", "Checked"),
        "GatewayReady": ("True", "PodsReady"),
        "PrefillReady": ("True", "PodsReady"),
        "DecodeReady": ("True", "PodsReady"),
        "ExpertsReady": ("True", "PodsReady"),
        "ExpertsCovered": ("True", "Covered"),
    }


def test_before_anything_was_checked_nothing_is_ready() -> None:
    found = said(look(Cluster()))

    assert found["Ready"] == ("Unknown", "Checking")
    assert found["Serving"] == ("False", "NoGateway")


def test_during_a_good_roll_it_serves_and_is_not_ready(cluster: Cluster) -> None:
    progressed = False
    for _ in range(20):
        go_on(cluster, restart={"id": "again"})
        found = said(look(cluster, restart={"id": "again"}))
        assert found["Serving"][0] == "True"
        progressed |= found["Progressing"][0] == "True" and found["Ready"][0] != "True"
    assert progressed
    assert said(look(cluster, restart={"id": "again"}))["Ready"][0] == "True"


def test_lost_shards_end_serving_with_the_reason(cluster: Cluster) -> None:
    for name in [name for name in cluster.all("Pod") if "experts" in name]:
        cluster.kill(name)

    found = said(look(cluster, gateways_cover=False))

    assert found["Serving"] == ("False", "ExpertsMissing")
    assert found["ExpertsReady"] == ("False", "PodsStarting")
    assert found["Ready"][0] != "True"


def test_silent_gateways_make_serving_unknown(cluster: Cluster) -> None:
    assert said(look(cluster, silent=("gateway",)))["Serving"] == ("Unknown", "NotObserved")


def test_zero_of_a_role_is_ready_and_does_not_serve(cluster: Cluster) -> None:
    for _ in range(6):
        go_on(cluster, decode={"replicas": 0})

    found = said(look(cluster, decode={"replicas": 0}))
    assert found["Ready"] == ("True", "AsSpecified")
    assert found["Serving"] == ("False", "ScaledToZero")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}, "ImagePullFailed"),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}, "CrashLooping"),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError"}}}]},
            "ContainerConfigWrong",
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, "Unschedulable"),
    ],
)
def test_the_trouble_of_a_pod_is_quoted(cluster: Cluster, change: dict[str, Any], reason: str) -> None:
    pod = cluster.all("Pod")[next(name for name in cluster.all("Pod") if "prefill" in name)]
    cluster.once_ready.discard(objects.name(pod))
    pod["status"] = {"phase": "Pending", **change}

    view = look(cluster)

    assert said(view)["PrefillReady"] == ("False", reason)
    assert objects.name(pod) in conditions.prefill_ready(view).message


def test_a_claim_that_is_missing_is_quoted_with_the_cure(cluster: Cluster) -> None:
    words = '0/3 nodes are available: persistentvolumeclaim "models" not found.'
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    pod = cluster.all("Pod")[next(name for name in cluster.all("Pod") if "prefill" in name)]
    cluster.once_ready.discard(objects.name(pod))
    pod["status"] = {"phase": "Pending", "conditions": [scheduled]}

    message = conditions.prefill_ready(look(cluster)).message

    assert words in message
    assert message.endswith("make this claim, or name another one in spec.model.source")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ('pods "x" is forbidden: exceeded quota: none', Reason.QUOTA_EXCEEDED),
        ('pods "x" is forbidden: violates PodSecurity "restricted"', Reason.ADMISSION_REFUSED),
    ],
)
def test_a_pod_that_was_refused_is_quoted(words: str, reason: Reason) -> None:
    cluster = Cluster()
    go_on(cluster)
    job = next(iter(cluster.all("Job")))
    cluster.all("Job")[job].pop("status")
    world = World(cluster.world().objects, refusals=(Refusal(job, words),))

    found = conditions.model_checked(View(deployment(), world, plan(deployment(), world, Environment())))

    assert (found.reason, found.message) == (reason, words)


def test_a_refused_write_is_said_first(cluster: Cluster) -> None:
    view = View(deployment(), cluster.world(), look(cluster).plan, (Wait(Reason.APPLY_FAILED, "no"),))

    assert said(view)["Ready"] == ("False", "ApplyFailed")


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = status.with_times([Found(conditions.ConditionType.READY, "False", Reason.CHECKING)], [], 1, "10:00")
    second = status.with_times([Found(conditions.ConditionType.READY, "False", Reason.CREATING)], first, 2, "11:00")
    third = status.with_times([Found(conditions.ConditionType.READY, "True", Reason.AS_SPECIFIED)], second, 2, "12:00")

    assert [one[0].last_transition_time for one in (first, second, third)] == ["10:00", "10:00", "12:00"]
    assert second[0].observed_generation == 2


def test_events_tell_what_became_of_a_deployment(cluster: Cluster) -> None:
    before = status.status(look(Cluster()), "10:00")
    after = status.status(look(cluster), "11:00")
    for name in [name for name in cluster.all("Pod") if "experts" in name]:
        cluster.kill(name)
    lost = status.status(look(cluster, gateways_cover=False), "12:00")

    def told(old: DeploymentStatus, new: DeploymentStatus) -> list[EventReason]:
        return [note.reason for note in events.of_conditions(old.conditions, new.conditions)]

    assert told(before, after) == [EventReason.BECAME_READY, EventReason.BECAME_SERVING]
    assert told(after, after) == []
    assert told(after, lost) == [EventReason.STOPPED_SERVING]


def test_the_status_names_experts_and_counts(cluster: Cluster) -> None:
    found = status.status(look(cluster), "10:00")

    assert (found.decode, found.prefill, found.experts.summary) == ("2/2", "1/1", "8/8")
    assert [shard.experts for shard in found.experts.shards] == ["0-3", "4-7"]
    assert found.model_revision == "one"


def look(cluster: Cluster, silent: tuple[str, ...] = (), gateways_cover: bool = True, **spec: Any) -> View:
    """Return a view; gateways say what they would: whether a decode worker reaches every expert."""
    world = cluster.world([name for name in cluster.all("Pod") if any(f"-{role}-" in name for role in silent)])
    states = {
        name: state.model_copy(update={"covered": gateways_cover}) if state.role == "gateway" else state
        for name, state in world.states.items()
    }
    world = World(world.objects, states)
    return View(deployment(**spec), world, plan(deployment(**spec), world, Environment()))


def said(view: View) -> dict[str, tuple[str, str]]:
    found = [condition(view) for condition in conditions.CONDITIONS]
    return {one.type.value: (one.status, one.reason.value) for one in found}
