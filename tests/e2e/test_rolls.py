"""One deployment under constant load while everything changes that may change: no answer fails, none is a mixture.

The tests share the deployment and run in this order. Every answer of the load is in whole that of `glm5 up` on the old
model or on the new one; retries are off, connections are reused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

import support_asker
import support_connections
import support_newer_operator
from cluster import demo, wheels
from support_asker import ONCE, QUESTIONS, Said, Tokens
from support_disturb import DyingOperators, corefile, other_tag, stopped_api_server
from support_final import settled
from support_kind import LABEL, Object, Served, claim_models, get, install_model, model_section, run_helm, wait_for
from support_leaving import Farewell, Leaving
from support_load import Load, faults
from support_watch import gone

# A step that is done twice finds nothing to change, and hides why it failed the first time.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600), pytest.mark.flaky(reruns=0)]
OLD, NEW = "toy-a", "toy-b"
DRAIN_SECONDS, PATIENT_SECONDS = 1, 600
MORE = {"sse": 2, "grpc-stream": 2}
"""So many more where there are more workers."""
DETECTION_SECONDS = 10
"""A starved machine shall not make living peers look dead: that is another test."""
OUTAGE_SECONDS = 60.0
ANSWERS = 1000
AFTER = 20
"""Answers that are waited for after each change."""
YOUNG_SECONDS = 5.0
"""A pod that a plan gave up when it had been ready for no longer may have had nothing to do yet."""


@dataclass
class Scene:
    """The deployment, its load and what is right."""

    served: Served
    load: Load
    old: list[Tokens]
    new: list[Tokens]
    answers: int = 0
    outlasted: bool = False
    """Whether an answer went on for longer than the drainSeconds of a worker that left."""
    before: Object = field(default_factory=dict)
    """The operator's objects before the first roll of the model."""


@pytest.fixture(scope="module")
def models(cluster: None) -> tuple[list[Tokens], list[Tokens]]:
    """What `glm5 up` answers on the old and on the new model."""
    old = support_asker.reference(install_model(OLD, seed=1), QUESTIONS)
    new = support_asker.reference(install_model(NEW, seed=2), QUESTIONS)
    assert not any(a == b for a, b in zip(old, new, strict=True))
    return old, new


@pytest.fixture(scope="module")
def scene(models: tuple[list[Tokens], list[Tokens]], module_namespace: str) -> Iterator[Scene]:
    """The deployment of examples/toy.yaml under load."""
    claim_models(module_namespace)
    served = Served(module_namespace)
    served.create(
        OLD,
        decode={"drainSeconds": DRAIN_SECONDS},
        gateway={"drainSeconds": PATIENT_SECONDS},
        detectionSeconds=DETECTION_SECONDS,
    )
    served.wait_ready()
    with cached_names(), Load("load", served, ways=ONCE, wide=ONCE) as load:
        yield Scene(served, load, *models)


def change(
    scene: Scene, act: Callable[[], None], *, leave: bool = True, rolls_model: bool = False, reverts: bool = False
) -> set[str]:
    """Act, wait until the spec is realised, and judge every answer until then; return the pods that left.

    Each of them must have had something open when it was told to.

    Args:
        scene: the deployment and its load.
        act: what is done.
        leave: whether pods have to leave.
        rolls_model: whether a whole model goes: whom its last users have left may be idle then.
        reverts: whether pods that have just become ready are given up.
    """
    wait_for(lambda: busy(scene.served), "every gateway and worker has a stream")
    with Leaving(scene.served) as leaving:
        act()
        scene.served.wait_ready()
        wait_for(lambda: not going(scene.served), "all that shall go is gone")
    connections = support_connections.seen(scene.served, [event.live for event in leaving.pods.events])
    assert support_connections.forbidden(scene.served, connections) == []
    said = scene.load.fresh(AFTER)
    judge(scene, said)
    scene.outlasted |= outlasted(said, [one.told_at for one in leaving.farewells.values() if one.role == "decode"])
    left = gone(leaving.pods.events)
    farewells = {name: leaving.farewells[name] for name in left}
    idle = {name: one for name, one in farewells.items() if one.held < 1}
    if reverts:
        idle = {name: one for name, one in idle.items() if one.ready_seconds > YOUNG_SECONDS}
    if rolls_model:
        decode = [one for one in farewells.values() if one.role == "decode"]
        idle = {name: one for name, one in idle.items() if not is_left_behind(one, decode)}
    assert idle == {}, f"of {farewells}"
    assert bool(left) == leave, left
    return left


def is_left_behind(pod: Farewell, decode: list[Farewell]) -> bool:
    """Return whether a pod was told to leave after all decode workers of its model: a shard, when they had ended."""
    users = [one for one in decode if one.compat == pod.compat]
    ended = {"experts": [one.ended_at for one in users], "prefill": [one.told_at for one in users]}.get(pod.role, [])
    return bool(ended) and max(ended) <= pod.told_at


def outlasted(said: list[Said], told: list[float]) -> bool:
    """Return whether an answer ran when a decode worker was told to leave, and still did when its patience was over."""
    moments = [at + time.time() - time.monotonic() for at in told]
    return any(one.begun < at and one.begun + one.seconds > at + DRAIN_SECONDS for one in said for at in moments)


@contextmanager
def more(scene: Scene, ways: dict[str, int], wide: dict[str, int]) -> Iterator[None]:
    """Let more clients ask inside the block."""
    with Load("more", scene.served, ways, wide) as load:
        yield
        judge(scene, load.fresh(1))


@contextmanager
def cached_names() -> Iterator[None]:
    """Let the cluster's DNS answer from what it knew up to half a minute ago, names of pods too."""
    with corefile(lambda text: re.sub(r"\n *disable (success|denial) cluster.local", "", text)):
        yield


def judge(scene: Scene, said: list[Said]) -> None:
    """Assert that every answer is whole, and of one model."""
    scene.answers += len(said)
    wrong = faults(said, scene.old, scene.new)
    assert wrong == [], f"{len(wrong)} of {len(said)} answers"


def begun_from_now_on(scene: Scene) -> list[Said]:
    """Return some answers to questions that are asked after this call."""
    now, found = time.time(), list[Said]()
    while len(found) < AFTER:
        said = scene.load.fresh(1)
        judge(scene, said)
        found += [one for one in said if one.begun > now]
        time.sleep(1)
    return found


def busy(served: Served) -> bool:
    """Return whether every gateway and every worker that is ready has something to do."""
    pods = [pod["metadata"]["name"] for role in ("gateway", "prefill", "decode") for pod in served.ready(role)]
    return all(served.state(pod)["in_flight"] for pod in pods)


def going(served: Served) -> list[str]:
    return [pod["metadata"]["name"] for pod in served.pods() if "deletionTimestamp" in pod["metadata"]]


def test_decode_workers_are_added_and_taken_away(scene: Scene) -> None:
    change(scene, lambda: scene.served.patch(decode={"replicas": 4}), leave=False)
    assert len(scene.served.ready("decode")) == 4
    with more(scene, ways=MORE, wide={}):
        assert len(change(scene, lambda: scene.served.patch(decode={"replicas": 2}))) == 2


def test_a_prefill_worker_is_added_and_taken_away(scene: Scene) -> None:
    change(scene, lambda: scene.served.patch(prefill={"replicas": 2}), leave=False)
    with more(scene, ways={}, wide=MORE):
        assert len(change(scene, lambda: scene.served.patch(prefill={"replicas": 1}))) == 1


def test_a_gateway_is_added_and_taken_away(scene: Scene) -> None:
    change(scene, lambda: scene.served.patch(gateway={"replicas": 2}), leave=False)
    with more(scene, ways=MORE, wide={}):
        assert len(change(scene, lambda: scene.served.patch(gateway={"replicas": 1}))) == 1


def test_shards_become_eight_and_four_again(scene: Scene) -> None:
    gone = change(scene, lambda: scene.served.patch(experts={"shards": 8}))
    assert len([name for name in gone if "-experts-" in name]) == 4
    assert len(scene.served.pods("experts")) == 8
    gone = change(scene, lambda: scene.served.patch(experts={"shards": 4}))
    assert len([name for name in gone if "-experts-" in name]) == 8


def test_a_bad_image_stops_the_roll_and_a_good_one_goes_on(scene: Scene) -> None:
    """With it a setting changes that rolls of the model need: nobody takes over from the last worker of a model."""
    before = set(scene.served.names())
    workers = {pod["metadata"]["name"] for pod in scene.served.pods("decode")}
    good = {role: other_tag(role) for role in ("runtime", "gateway")}

    def bad_then_good() -> None:
        scene.served.patch(images={"runtime": "glm5-serve/runtime:missing"}, decode={"drainSeconds": PATIENT_SECONDS})
        found = wait_for(lambda: stuck(scene.served), "the condition says that the image is missing")
        assert "glm5-serve/runtime:missing" in found["message"]
        assert workers <= {pod["metadata"]["name"] for pod in scene.served.ready("decode")}
        scene.served.patch(images=good)

    assert change(scene, bad_then_good) == before


def test_a_new_model_takes_the_place_of_the_old_one(scene: Scene) -> None:
    before, scene.before = set(scene.served.names()), settled(scene.served)
    gone = change(scene, lambda: scene.served.patch(model=model_section(NEW)), rolls_model=True)
    assert gone == before
    assert faults(begun_from_now_on(scene), scene.new) == []


def test_a_roll_is_reverted_in_the_middle(scene: Scene) -> None:
    def there_and_back() -> None:
        scene.served.patch(model=model_section(OLD))
        wait_for(lambda: rolling(scene.served) and busy(scene.served), "decode workers of both revisions work")
        scene.served.patch(model=model_section(NEW))

    change(scene, there_and_back, rolls_model=True, reverts=True)
    assert faults(begun_from_now_on(scene), scene.new) == []


def test_operators_that_die_after_every_second_write_end_with_the_same_objects(scene: Scene) -> None:
    with DyingOperators(writes=2) as operators:
        change(scene, lambda: scene.served.patch(model=model_section(OLD)), rolls_model=True, reverts=True)
    assert len(operators.deaths) >= 8
    assert faults(begun_from_now_on(scene), scene.old) == []
    assert settled(scene.served) == scene.before


def test_an_operator_that_renders_pods_otherwise_changes_none(scene: Scene) -> None:
    uids, before = {pod["metadata"]["uid"] for pod in scene.served.pods()}, settled(scene.served)
    name = support_newer_operator.build()

    def upgrade() -> None:
        chart = wheels.REPOSITORY / "charts" / "glm5-operator"
        values = ["--reuse-values", "--set", f"image.tag={name.partition(':')[2]}", "--set", "log.level=debug"]
        where = ["--namespace", demo.OPERATOR_NAMESPACE]
        run_helm("upgrade", "glm5-operator", chart, *where, *values, "--wait", "--timeout=5m")

    change(scene, upgrade, leave=False)
    # What it makes anew has the annotation: it does render otherwise, and acts.
    other = Served(scene.served.namespace, "other")
    other.create(OLD, **{role: {"replicas": 0} for role in ("gateway", "prefill", "decode", "experts")})
    other.wait_ready()
    assert set(map(annotated, templates(other))) == {True}
    assert {pod["metadata"]["uid"] for pod in scene.served.pods()} == uids
    assert settled(scene.served) == before


def test_an_outage_of_the_api_server_is_noticed_by_nobody(scene: Scene) -> None:
    restarts = wait_for(restarts_of_operators, "two operators and no other")
    pods = {pod["metadata"]["uid"] for pod in scene.served.pods()}

    with stopped_api_server():
        time.sleep(OUTAGE_SECONDS)
    scene.served.patch(service={"annotations": {"outage": "over"}})
    changed = time.monotonic()
    wait_for(lambda: "outage" in annotations_of(scene.served), "the change is acted on")

    assert time.monotonic() - changed < 15
    judge(scene, scene.load.fresh(AFTER))
    assert restarts_of_operators() == restarts
    assert {pod["metadata"]["uid"] for pod in scene.served.pods()} == pods


def test_the_load_was_what_it_should_be(scene: Scene) -> None:
    """A slow machine asks on until there are as many answers as there shall be at least."""
    assert scene.outlasted
    while scene.answers < ANSWERS:
        judge(scene, scene.load.fresh(AFTER))


def restarts_of_operators() -> dict[str, int]:
    """Return how often the container of each of the two operators was started again; empty while others are there."""
    pods = get(f"/api/v1/namespaces/{demo.OPERATOR_NAMESPACE}/pods")["items"]
    found = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}
    return found if len(found) == 2 else {}


def annotations_of(served: Served) -> dict[str, str]:
    """Return the annotations of the Service for clients."""
    found = get(f"/api/v1/namespaces/{served.namespace}/services/{served.name}")
    return dict(found["metadata"].get("annotations", {}))


def rolling(served: Served) -> bool:
    """Return whether workers of two revisions are there, of each a ready one."""
    return len({pod["metadata"]["labels"]["serving.glm5.io/revision"] for pod in served.ready("decode")}) == 2


def stuck(served: Served) -> dict[str, str]:
    """Return the condition Progressing once it says that an image cannot be had."""
    found = served.condition("Progressing")
    return found if found.get("reason") == "ImagePullFailed" else {}


def templates(served: Served) -> list[Object]:
    """Return the pod templates of a deployment's Deployments."""
    path = f"/apis/apps/v1/namespaces/{served.namespace}/deployments"
    return [one["spec"]["template"] for one in get(path, labelSelector=f"{LABEL}={served.name}")["items"]]


def annotated(template: Object) -> bool:
    return support_newer_operator.ANNOTATION in template["metadata"].get("annotations", {})
