"""Every change of a deployment under constant load: no answer fails, none changes, no pod leaves but with its streams.

A pod of the cluster asks over HTTP (whole and streamed) and gRPC, with retries off and connections reused. The tests
share the deployment and the load and run in this order.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import pytest

import support_asker
from cluster import demo, images, kind_cluster, wheels
from support_asker import Said, Tokens
from support_kind import (
    LABEL,
    Repeated,
    Served,
    api,
    claim_models,
    connect,
    get,
    install_model,
    model_section,
    run_helm,
    wait_for,
)
from support_load import Load, Streams, faults
from support_watch import Watch, gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
OLD, NEW = "toy-a", "toy-b"
DRAIN_SECONDS, PATIENT_SECONDS = 2, 600
LONG = 60
"""Tokens of the longest answer: more than are made in DRAIN_SECONDS."""
QUESTIONS = support_asker.questions(13, longest=LONG)
WAYS = {"plain": 2, "sse": 3, "grpc": 1, "grpc-stream": 2}
OUTAGE_SECONDS = 60.0
AFTER = 20
"""Answers that are waited for after each change."""


@dataclass
class Scene:
    """The deployment, its load and what is right."""

    served: Served
    load: Load
    old: list[Tokens]
    new: list[Tokens]
    answers: int = 0
    longest: float = 0.0


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
    # A starved machine shall not make living peers look dead: that is another test.
    served.create(
        OLD, decode={"drainSeconds": DRAIN_SECONDS}, gateway={"drainSeconds": PATIENT_SECONDS}, detectionSeconds=30
    )
    served.wait_ready()
    with Load(module_namespace, served.name, QUESTIONS, WAYS) as load:
        yield Scene(served, load, *models)


def change(scene: Scene, act: Callable[[], None], *, leave: bool = True, idle: bool = False) -> set[str]:
    """Act, wait until the spec is realised, and judge every answer until then; return the pods that left.

    Args:
        scene: the deployment and its load.
        act: what is done.
        leave: whether pods have to leave.
        idle: whether pods may leave that hold no stream.
    """
    wait_for(lambda: busy(scene.served), "every gateway and decode worker has a stream")
    pods = Watch(f"/api/v1/namespaces/{scene.served.namespace}/pods", f"{LABEL}={scene.served.name}")
    with pods, Streams(scene.served) as streams:
        act()
        scene.served.wait_ready()
        wait_for(lambda: not going(scene.served), "all that shall go is gone")
    judge(scene, scene.load.fresh(AFTER))
    left = gone(pods.events)
    # Between two prompts a prefill worker holds nothing.
    held = {name: streams.last(name) for name in left if "-prefill-" not in name}
    assert idle or [name for name, count in held.items() if count <= 0] == [], f"streams of pods that left: {held}"
    assert bool(left) == leave, left
    return left


def judge(scene: Scene, said: list[Said]) -> None:
    """Assert that every answer is whole, and of one model."""
    scene.answers += len(said)
    scene.longest = max(scene.longest, *(one.seconds for one in said))
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
    """Return whether every gateway and every decode worker has something to do."""
    return all(served.state(pod)["in_flight"] for role in ("gateway", "decode") for pod in served.names(role))


def going(served: Served) -> list[str]:
    return [pod["metadata"]["name"] for pod in served.pods() if "deletionTimestamp" in pod["metadata"]]


def test_decode_workers_are_added_and_taken_away(scene: Scene) -> None:
    change(scene, lambda: scene.served.patch(decode={"replicas": 4}), leave=False)
    assert len(scene.served.ready("decode")) == 4
    assert len(change(scene, lambda: scene.served.patch(decode={"replicas": 2}))) == 2


def test_a_prefill_worker_is_added_and_taken_away(scene: Scene) -> None:
    change(scene, lambda: scene.served.patch(prefill={"replicas": 2}), leave=False)
    assert len(change(scene, lambda: scene.served.patch(prefill={"replicas": 1}))) == 1


def test_a_gateway_is_added_and_taken_away(scene: Scene) -> None:
    change(scene, lambda: scene.served.patch(gateway={"replicas": 2}), leave=False)
    assert len(change(scene, lambda: scene.served.patch(gateway={"replicas": 1}))) == 1


def test_shards_become_eight_and_four_again(scene: Scene) -> None:
    gone = change(scene, lambda: scene.served.patch(experts={"shards": 8}))
    assert len([name for name in gone if "-experts-" in name]) == 4
    assert len(scene.served.pods("experts")) == 8
    gone = change(scene, lambda: scene.served.patch(experts={"shards": 4}))
    assert len([name for name in gone if "-experts-" in name]) == 8


def test_a_setting_is_changed(scene: Scene) -> None:
    """Also what rolls of the model need: nobody takes over from the last worker of a model, so it has to have time."""
    before = set(scene.served.names("decode"))
    assert before <= change(scene, lambda: scene.served.patch(decode={"drainSeconds": PATIENT_SECONDS}))


def test_a_new_model_takes_the_place_of_the_old_one(scene: Scene) -> None:
    before = set(scene.served.names())
    gone = change(scene, lambda: scene.served.patch(model=model_section(NEW)))
    assert gone == before
    assert faults(begun_from_now_on(scene), scene.new) == []


def test_a_roll_is_reverted_in_the_middle(scene: Scene) -> None:
    def there_and_back() -> None:
        scene.served.patch(model=model_section(OLD))
        wait_for(lambda: rolling(scene.served), "both revisions of decode workers are there")
        scene.served.patch(model=model_section(NEW))

    change(scene, there_and_back, idle=True)  # some were Ready only just now
    assert faults(begun_from_now_on(scene), scene.new) == []


def test_new_images_take_the_place_of_old_ones(scene: Scene) -> None:
    before = set(scene.served.names())
    wanted = {role: other_tag(role) for role in ("runtime", "gateway")}
    gone = change(scene, lambda: scene.served.patch(images=wanted))
    assert gone == before


def test_a_bad_image_stops_the_roll_and_a_good_one_goes_on(scene: Scene) -> None:
    before = {pod["metadata"]["name"] for pod in scene.served.pods("decode")}

    scene.served.patch(images={"runtime": "glm5-serve/runtime:missing", "pullPolicy": "Never"})
    found = wait_for(lambda: stuck(scene.served), "the condition says that the image is missing")
    assert "glm5-serve/runtime:missing" in found["message"]
    assert before <= {pod["metadata"]["name"] for pod in scene.served.ready("decode")}

    change(scene, lambda: scene.served.patch(images={"runtime": images.tag("runtime"), "pullPolicy": "IfNotPresent"}))


def test_another_operator_takes_over_and_changes_no_pod(scene: Scene) -> None:
    uids = {pod["metadata"]["uid"] for pod in scene.served.pods()}

    def upgrade() -> None:
        chart = wheels.REPOSITORY / "charts" / "glm5-operator"
        values = ["--reuse-values", "--set", f"image.tag={tag_of_operator()}", "--set", "log.level=debug"]
        where = ["--namespace", demo.OPERATOR_NAMESPACE]
        run_helm("upgrade", "glm5-operator", chart, *where, *values, "--wait", "--timeout=5m")

    change(scene, upgrade, leave=False)
    assert {pod["metadata"]["uid"] for pod in scene.served.pods()} == uids


def test_an_outage_of_the_api_server_is_noticed_by_nobody(scene: Scene) -> None:
    restarts = restarts_of_operators()
    pods = {pod["metadata"]["uid"] for pod in scene.served.pods()}

    with stopped_api_server():
        time.sleep(OUTAGE_SECONDS)
    scene.served.patch(service={"annotations": {"outage": "over"}})
    changed = time.monotonic()
    wait_for(lambda: "outage" in annotations(scene.served), "the change is acted on")

    assert time.monotonic() - changed < 15
    judge(scene, scene.load.fresh(AFTER))
    assert restarts_of_operators() == restarts
    assert {pod["metadata"]["uid"] for pod in scene.served.pods()} == pods


def test_names_that_are_cached_for_half_a_minute_mislead_nobody(scene: Scene) -> None:
    with corefile(lambda text: re.sub(r"\n *disable (success|denial) cluster.local", "", text)):
        change(scene, lambda: scene.served.patch(decode={"replicas": 3}), leave=False)
        assert len(change(scene, lambda: scene.served.patch(decode={"replicas": 2}))) == 1


def test_operators_that_die_after_every_third_write_still_roll(scene: Scene) -> None:
    old_now = scene.served.live()["spec"]["model"]["revision"] == OLD
    name, answers = (NEW, scene.new) if old_now else (OLD, scene.old)
    with DyingOperators(writes=3) as operators:
        change(scene, lambda: scene.served.patch(model=model_section(name)))
    assert len(operators.deaths) >= 8
    assert faults(begun_from_now_on(scene), answers) == []


def test_the_load_was_what_it_should_be(scene: Scene) -> None:
    judge(scene, scene.load.fresh(1))
    assert scene.answers >= 1000
    assert scene.longest > DRAIN_SECONDS


@contextmanager
def corefile(edit: Callable[[str], str]) -> Iterator[None]:
    """Run the cluster's DNS with an edited configuration inside the block."""
    where = ["-n", "kube-system", "configmap", "coredns"]
    before = kind_cluster.kubectl("get", *where, "-o", "jsonpath={.data.Corefile}")
    assert edit(before) != before
    try:
        configure_dns(edit(before))
        yield
    finally:
        configure_dns(before)


def configure_dns(text: str) -> None:
    body = json.dumps({"data": {"Corefile": text}})
    kind_cluster.kubectl("patch", "-n", "kube-system", "configmap", "coredns", "--type=merge", "-p", body)
    where = ["-n", "kube-system", "deployment/coredns"]
    kind_cluster.kubectl("rollout", "restart", *where)
    kind_cluster.kubectl("rollout", "status", *where, "--timeout=300s", timeout_seconds=330)


@contextmanager
def stopped_api_server() -> Iterator[None]:
    """Stop the API server inside the block: its kubelet loses the manifest and ends it."""
    node = kind_cluster.nodes()[0]
    here, away = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml"
    in_node(node, "mv", here, away)
    try:
        wait_for(lambda: not api_answers(), "the API server is away")
        yield
    finally:
        in_node(node, "mv", away, here)
        # Connections from before may hang in the forwarded port: whoever waits on one measures that.
        wait_for(api_answers, "the API server is back")
        api().close()
        api.cache_clear()


def api_answers() -> bool:
    try:
        with connect(5) as fresh:
            return fresh.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def in_node(node: str, *command: str) -> None:
    subprocess.run(["docker", "exec", node, *command], check=True, capture_output=True, timeout=60)


def restarts_of_operators() -> dict[str, int]:
    """Return how often the container of each operator was started again."""
    pods = get(f"/api/v1/namespaces/{demo.OPERATOR_NAMESPACE}/pods")["items"]
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


def annotations(served: Served) -> dict[str, str]:
    """Return the annotations of the Service for clients."""
    found = get(f"/api/v1/namespaces/{served.namespace}/services/{served.name}")
    return dict(found["metadata"].get("annotations", {}))


class DyingOperators(Repeated):
    """Operators that end after some writes, and then make room at once for another: inside the block."""

    def __init__(self, writes: int) -> None:
        super().__init__(self._replace)
        self._writes = writes
        self.deaths: set[tuple[str, str]] = set()
        """(pod, time) of each end."""

    def __enter__(self) -> Self:
        set_failpoint(f"={self._writes}")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        set_failpoint("-")

    def _replace(self) -> None:
        for pod in get(f"/api/v1/namespaces/{demo.OPERATOR_NAMESPACE}/pods")["items"]:
            status = (pod["status"].get("containerStatuses") or [{}])[0]
            ends = [status.get(key, {}).get("terminated") for key in ("state", "lastState")]
            self.deaths |= {(pod["metadata"]["uid"], end["finishedAt"]) for end in ends if end}
            # The kubelet would wait longer and longer before it starts it again.
            if "waiting" in status.get("state", {}) and any(ends):
                name = pod["metadata"]["name"]
                api().delete(f"/api/v1/namespaces/{demo.OPERATOR_NAMESPACE}/pods/{name}?gracePeriodSeconds=0")


def set_failpoint(value: str) -> None:
    """Set or remove (with "-") the variable that ends operators after some writes, and wait for the new ones."""
    where = ["-n", demo.OPERATOR_NAMESPACE, "deployment/glm5-operator"]
    kind_cluster.kubectl("set", "env", *where, f"GLM5_OPERATOR_FAILPOINT_WRITE{value}")
    kind_cluster.kubectl("rollout", "status", *where, "--timeout=300s", timeout_seconds=330)


def rolling(served: Served) -> bool:
    """Return whether workers of two revisions are there, of each a ready one."""
    return len({pod["metadata"]["labels"]["serving.glm5.io/revision"] for pod in served.ready("decode")}) == 2


def stuck(served: Served) -> dict[str, str]:
    """Return the condition Progressing once it says that an image cannot be had."""
    found = served.condition("Progressing")
    return found if found.get("reason") == "ImagePullFailed" else {}


def other_tag(image: str) -> str:
    """Return another name of an image, on the nodes too: for Kubernetes it is another image."""
    name = images.tag(image).replace(":dev", ":next")
    subprocess.run(["docker", "tag", images.tag(image), name], check=True, timeout=60)
    for node in kind_cluster.nodes()[1:]:
        full = [f"docker.io/{one}" for one in (images.tag(image), name)]
        in_node(node, "ctr", "-n", "k8s.io", "images", "tag", "--force", *full)
    return name


def tag_of_operator() -> str:
    return other_tag("operator").partition(":")[2]
