"""Whatever is asked for and whatever breaks: the planner stays safe at every step and arrives."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from glm5_operator import objects
from glm5_operator.manifests import Environment
from glm5_operator.names import REVISION_LABEL, ROLE_LABEL
from glm5_operator.plan import plan
from glm5_operator.revision import role_revision
from glm5_operator.steps import Delete
from glm5_spec.resource import GLM5Deployment
from support_operator import Cluster, deployment, source

ENVIRONMENT = Environment()
ROUNDS = 200

changes = st.one_of(
    st.sampled_from(["good-one", "good-two", "bad-one"]).map(lambda path: {"model": source(path)}),
    st.sampled_from(["runtime:1", "runtime:2", "runtime:bad"]).map(
        lambda image: {"images": {"runtime": image, "gateway": "gateway:1"}}
    ),
    st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 3]), st.sampled_from(["Surge", "Replace"])).map(
        lambda both: {
            "experts": {
                "shards": both[0],
                "replicas": both[1],
                "rollout": {"strategy": both[2] if both[1] > 1 else "Surge"},
            }
        }
    ),
    st.integers(1, 3).map(lambda count: {"decode": {"replicas": count}}),
    st.sampled_from(["", "a"]).map(lambda word: {"restart": {"id": word}}),
    st.booleans().map(lambda paused: {"paused": paused}),
)
happenings = st.one_of(
    changes.map(lambda change: ("change", change)),
    st.integers(0, 4).map(lambda writes: ("pass, killed after", writes)),
    st.just(("pass", None)),
    st.just(("tick", None)),
    st.integers(1, 8).map(lambda rounds: ("rounds", rounds)),
    st.integers(1, 8).map(lambda rounds: ("rounds", rounds)),
    st.integers(0, 9).map(lambda which: ("kill a pod", which)),
    st.just(("kill all shards", None)),
    st.tuples(st.sampled_from(["Deployment", "ConfigMap", "Service", "Job"]), st.integers(0, 9)).map(
        lambda what: ("delete", what)
    ),
)


# No shrinking: it takes minutes, and a failing history is short enough to read.
PLAIN = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# How many writes a life of the operator lasts, all the time: with 1 it crashes at every step.
lives = st.sampled_from([None, None, 1, 2])
histories = given(history=st.lists(happenings, max_size=25), drain=st.integers(0, 3), begun=st.booleans(), life=lives)


@histories
@settings(PLAIN, max_examples=30, derandomize=True)
def test_no_history_ends_service_or_leads_astray(
    history: list[tuple[str, Any]], drain: int, begun: bool, life: int | None
) -> None:
    _live_through(history, drain, begun, life)


@pytest.mark.long
@pytest.mark.timeout(1800)
@histories
@settings(PLAIN, max_examples=1000)
def test_nor_does_any_of_a_thousand_others(
    history: list[tuple[str, Any]], drain: int, begun: bool, life: int | None
) -> None:
    _live_through(history, drain, begun, life)


def _live_through(history: list[tuple[str, Any]], drain: int, begun: bool, life: int | None) -> None:
    cluster: Cluster = Cluster()
    spec: dict[str, Any] = {}
    cluster.bad_images = {"runtime:bad"}
    cluster.drain_ticks = drain
    if begun:
        _settle(cluster, deployment(), life)
    for what, argument in history:
        if what == "change":
            spec |= argument
        else:
            _happen(cluster, deployment(**spec), what, argument, life)
    _settle(cluster, deployment(**_healed(spec)), life)


def _healed(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the spec after somebody mended what cannot work."""
    images = {"images": {"runtime": "runtime:2", "gateway": "gateway:1"}}
    return {**spec, "paused": False, "model": source("good-two"), **images}


def _happen(cluster: Cluster, wanted: GLM5Deployment, what: str, argument: Any, life: int | None) -> None:
    if what == "tick":
        _unharmed(cluster, cluster.tick)
    elif what == "rounds":
        for _ in range(argument):
            _pass(cluster, wanted, life)
            _unharmed(cluster, cluster.tick)
    elif what.startswith("pass"):
        _pass(cluster, wanted, life if argument is None else argument)
    elif what == "kill a pod":
        _kill(cluster, sorted(cluster.all("Pod"))[argument : argument + 1])
    elif what == "kill all shards":
        pods = cluster.all("Pod").values()
        _kill(cluster, [objects.name(pod) for pod in pods if objects.label(pod, ROLE_LABEL) == "experts"])
    else:
        kind, which = argument
        for name in sorted(cluster.all(kind))[which : which + 1]:
            cluster.remove(kind, name)
            cluster.collect()  # the harm is the user's, not that of the next step


def _kill(cluster: Cluster, names: list[str]) -> None:
    for name in names:
        cluster.kill(name)


def _pass(cluster: Cluster, wanted: GLM5Deployment, writes: int | None) -> None:
    """Plan and do at most `writes` steps."""
    steps = plan(wanted, cluster.world(), ENVIRONMENT).steps
    for step in steps[:writes]:
        _unharmed(cluster, lambda step=step: cluster.do(step))  # type: ignore[misc]
        after = {kind: dict(found) for kind, found in cluster.objects.items()}
        cluster.do(step)
        assert cluster.objects == after, f"twice is not once: {step}"


def _unharmed(cluster: Cluster, act: Any) -> None:
    """Do what is done by plan, and hold it against the promises."""
    served, covered = cluster.serving(), _covered(cluster)
    act()
    assert cluster.serving() or not served, "service ended"
    lost = covered - _covered_or_gone(cluster, covered)
    assert not lost, f"workers lost their experts: {lost}"
    for pod in cluster.all("Pod").values():
        for one in pod["spec"]["containers"]:
            assert "bad-one" not in str(pod.get("settings", "")), f"a damaged model was rolled out: {one}"


def _covered(cluster: Cluster) -> set[str]:
    return {name for name, pod in cluster.all("Pod").items() if cluster.covered(pod)}


def _covered_or_gone(cluster: Cluster, before: set[str]) -> set[str]:
    return {name for name in before if name not in cluster.all("Pod") or cluster.covered(cluster.all("Pod")[name])}


def _settle(cluster: Cluster, wanted: GLM5Deployment, life: int | None = None) -> None:
    """Go on until nothing changes; what is there then is what was asked for."""
    for _ in range(ROUNDS):
        _pass(cluster, wanted, life)
        _unharmed(cluster, cluster.tick)
        found = plan(wanted, cluster.world(), ENVIRONMENT)
        if not found.steps and not found.waits:
            break
    last = plan(wanted, cluster.world(), ENVIRONMENT)
    assert not last.steps
    assert not last.waits
    revision = role_revision(wanted, "experts")
    sets = cluster.all("StatefulSet").values()
    assert {objects.label(one, REVISION_LABEL) for one in sets} == {revision}
    assert len(sets) == wanted.spec.experts.replicas
    for role in ("gateway", "prefill", "decode"):
        live = cluster.all("Deployment")[f"demo-{role}"]
        assert objects.label(live["spec"]["template"], REVISION_LABEL) == role_revision(wanted, role)
        assert objects.rolled(live)
    assert cluster.serving()


def test_no_step_is_planned_under_a_deployment_that_is_being_deleted() -> None:
    cluster = Cluster()
    _settle(cluster, deployment())
    cluster.remove("Service", "demo")

    world = cluster.world()
    assert any(not isinstance(step, Delete) for step in plan(deployment(), world, ENVIRONMENT).steps)
    gone = type(world)(world.objects, world.states, deleting=True)
    assert plan(deployment(), gone, ENVIRONMENT).steps == ()
