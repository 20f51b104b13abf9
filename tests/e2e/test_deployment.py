"""One deployment in the kind cluster from `kubectl apply` to `kubectl delete`: what a user is promised, with real pods.

The tests share the deployment and run in this order; each leaves it Ready.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import httpx
import pytest
import yaml

import support_asker
import support_connections
from cluster import demo, kind_cluster, wheels
from glm5_spec.resource import ROLE_NAMES
from support_asker import ONCE, QUESTIONS, Tokens
from support_kind import (
    Object,
    Served,
    api,
    claim_models,
    get,
    install_model,
    is_ready,
    wait_for,
)
from support_strangers import FENCED, PORT, address_of, strangers
from support_watch import Watch, condition_times, left_ready

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
MODEL = "toy-a"
OPERATOR = "glm5-operator"
ASKERS = 50
RIGHTS = wheels.REPOSITORY / "charts" / "glm5-operator" / "files" / "rights.yaml"


@pytest.fixture(scope="module")
def expected(cluster: None) -> list[Tokens]:
    """What `glm5 up` answers."""
    return support_asker.reference(install_model(MODEL, seed=1), QUESTIONS)


@pytest.fixture(scope="module")
def served(expected: list[Tokens], module_namespace: str) -> Served:
    """The deployment of examples/toy.yaml on a toy checkpoint."""
    claim_models(module_namespace)
    one = Served(module_namespace)
    one.create(MODEL)
    one.wait_ready()
    return one


def test_kubectl_get_shows_how_it_is(served: Served) -> None:
    header, row = kind_cluster.kubectl("get", "glm5", "-n", served.namespace).splitlines()

    assert header.split() == ["NAME", "MODEL", "READY", "SERVING", "REASON", "PREFILL", "DECODE", "EXPERTS", "AGE"]
    total = num_experts()
    assert row.split()[:8] == ["toy", "toy", "True", "True", "AsSpecified", "1/1", "2/2", f"{total}/{total}"]


def test_answers_from_inside_the_cluster_are_those_of_glm5_up(served: Served, expected: list[Tokens]) -> None:
    said = support_asker.ask_once(served.namespace, served.name, QUESTIONS)

    assert [one.error for one in said if one.error] == []
    assert sorted((one.way, one.question) for one in said) == sorted((w, q) for w in ONCE for q in range(len(expected)))
    wrong = {(one.way, one.question) for one in said if list(one.tokens) != expected[one.question]}
    assert wrong == set()


def test_every_connection_between_pods_is_one_that_the_policies_allow(served: Served) -> None:
    seen = support_connections.seen(served)
    assert support_connections.forbidden(served, seen) == []
    kinds = {(one.source.role, one.target.role, one.port) for one in seen}
    assert {("gateway", "decode", 9000), ("decode", "experts", 9000), ("prefill", "experts", 9000)} <= kinds
    assert ("decode", "", 53) in kinds


def test_who_has_no_business_with_a_pod_is_kept_out_where_nodes_enforce_policies(served: Served) -> None:
    addresses = {role: address_of(served.namespace, served.names(role)[0]) for role in ROLE_NAMES}
    with strangers(served.namespace) as reaches:
        if reaches(address_of(served.namespace, FENCED), PORT):
            pytest.skip("probed: this node image does not enforce NetworkPolicies (official ones do)")
        ports = {(role, port) for role in ROLE_NAMES for port in (8000, 9000, 9100) if reaches(addresses[role], port)}
    assert ports == {("gateway", 8000), ("gateway", 9000)}


def test_status_and_placement_name_the_experts_of_every_shard(served: Served) -> None:
    shards = served.names("experts")
    each = num_experts() // len(shards)
    held = {name: f"{each * i}-{each * (i + 1) - 1}" for i, name in enumerate(shards)}

    status = served.live()["status"]["experts"]
    assert {one["name"]: one["experts"] for one in status["shards"]} == held
    path = f"/apis/serving.glm5.io/v1alpha1/namespaces/{served.namespace}/glm5expertplacements/{served.name}"
    placement = get(path)
    assert {one["name"]: one["ready"] for one in placement["shards"]} == dict.fromkeys(shards, True)
    assert {one["name"]: [row["experts"] for row in one["holdings"]] for one in placement["shards"]} == {
        name: [experts] for name, experts in held.items()
    }


def test_pods_have_no_token_and_objects_no_finalizer_of_ours(served: Served) -> None:
    pods = served.pods()
    assert len(pods) == 8
    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        volumes = json.dumps(pod["spec"]["volumes"])
        assert "serviceAccountToken" not in volumes

    for one in everything(served):
        metadata = one["metadata"]
        foreign = set(metadata.get("finalizers", [])) - {"batch.kubernetes.io/job-tracking"}
        assert foreign == set(), f"{one['kind']} {metadata['name']}"
        assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]


def test_the_operators_rights_are_the_committed_ones(served: Served) -> None:
    rules = yaml.safe_load(RIGHTS.read_text())
    wanted = {
        (in_full(resource, group), verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert can_do(served.namespace, OPERATOR) - can_do(served.namespace, "nobody-bound-this") == wanted


def test_when_all_shards_are_killed_clients_are_told_and_all_comes_back(served: Served) -> None:
    shards, others = served.names("experts"), {name for name in served.names() if "experts" not in name}
    selector = f"serving.glm5.io/deployment={served.name}"
    pods = Watch(f"/api/v1/namespaces/{served.namespace}/pods", selector)
    objects = Watch(f"/apis/serving.glm5.io/v1alpha1/namespaces/{served.namespace}/glm5deployments")
    with pods, objects:
        killed = time.monotonic()
        kind_cluster.kubectl("delete", "pod", "-n", served.namespace, "--grace-period=0", "--force", *shards)

        with ThreadPoolExecutor(ASKERS) as askers:
            asked = list[Future[Object]]()
            # Some were asked before anybody knew, and wait for the shards to come back.
            refused = wait_for(lambda: first_refusal(asked, askers, served), "a 503")
        assert refused["error"]["message"]
        wait_for(lambda: condition_times(objects.events, "Serving", "False"), "Serving=False")
        wait_for(lambda: answers(served), "an answer again")
        served.wait_ready()

        assert condition_times(objects.events, "Serving", "False")[0] - killed < 10
        assert left_ready(pods.events) & others == set()
    assert {name for name in served.names() if "experts" not in name} == others


def test_another_operator_acts_when_the_leaders_pod_is_gone(served: Served) -> None:
    lease = wait_for(holder, "somebody leads")
    leader = next(pod for pod in operator_pods() if lease.startswith(pod["metadata"]["uid"]))
    name = leader["metadata"]["name"]
    begun = time.monotonic()
    kind_cluster.kubectl("delete", "pod", "-n", demo.OPERATOR_NAMESPACE, "--grace-period=0", "--force", name)
    kind_cluster.kubectl("delete", "service", "-n", served.namespace, f"{served.name}-decode")

    service = f"/api/v1/namespaces/{served.namespace}/services/{served.name}-decode"
    wait_for(lambda: get(service), "the service is back")

    assert time.monotonic() - begun < 20
    assert holder() not in ("", lease)


def test_the_scale_of_a_role_survives_repair_and_a_restart_of_the_operator(served: Served) -> None:
    served.patch(decode={"replicas": None, "scaling": {"minReplicas": 1, "maxReplicas": 3}})
    scaler = f"{served.name}-decode"
    path = f"/apis/serving.glm5.io/v1alpha1/namespaces/{served.namespace}/glm5rolescalers/{scaler}"
    wait_for(lambda: get(path), "the scaler exists")
    kind_cluster.kubectl("scale", f"glm5rolescalers/{scaler}", "-n", served.namespace, "--replicas=2")
    wait_for(lambda: len(served.ready("decode")) == 2, "2 decode workers")

    label = "app.kubernetes.io/managed-by"
    kind_cluster.kubectl("label", "glm5rolescalers", scaler, "-n", served.namespace, f"{label}=me", "--overwrite")
    wait_for(lambda: get(path)["metadata"]["labels"][label] == OPERATOR, "the label is repaired")
    kind_cluster.kubectl("rollout", "restart", "-n", demo.OPERATOR_NAMESPACE, f"deployment/{OPERATOR}")
    rollout = ["rollout", "status", "-n", demo.OPERATOR_NAMESPACE, f"deployment/{OPERATOR}", "--timeout=300s"]
    kind_cluster.kubectl(*rollout, timeout_seconds=330)
    kind_cluster.kubectl("delete", "service", "-n", served.namespace, f"{served.name}-decode")
    wait_for(lambda: get(f"/api/v1/namespaces/{served.namespace}/services/{served.name}-decode"), "repaired again")

    assert get(path)["spec"]["replicas"] == 2
    served.wait_ready()
    assert len(served.ready("decode")) == 2


def test_deleting_it_leaves_nothing_even_without_an_operator(served: Served) -> None:
    scale("0")
    try:
        kind_cluster.kubectl("delete", "glm5", "-n", served.namespace, served.name, timeout_seconds=120)
        wait_for(lambda: everything(served) == [], "nothing is left", 300)
    finally:
        scale("2")


def num_experts() -> int:
    """Return the number of routed experts of a layer."""
    config = json.loads((kind_cluster.models() / MODEL / "config.json").read_text())
    return int(config["n_routed_experts"])


def everything(served: Served) -> list[Object]:
    """Return all objects of all kinds that carry the deployment's label."""
    kinds = kind_cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    kinds = [kind for kind in kinds if not kind.startswith("events")]
    label = f"serving.glm5.io/deployment={served.name}"
    found = kind_cluster.kubectl("get", ",".join(kinds), "-n", served.namespace, "-l", label, "-o", "json")
    return list(json.loads(found)["items"])


def in_full(resource: str, group: str) -> str:
    """Return a resource as `kubectl auth can-i --list` writes it: with its group, a subresource at the end."""
    name, slash, part = resource.partition("/")
    return f"{name}.{group}".rstrip(".") + slash + part


def can_do(namespace: str, account: str) -> set[tuple[str, str]]:
    """Return (resource, verb) that `kubectl auth can-i --list` says of an account of the operator's namespace."""
    user = f"--as=system:serviceaccount:{demo.OPERATOR_NAMESPACE}:{account}"
    lines = kind_cluster.kubectl("auth", "can-i", "--list", "-n", namespace, "--no-headers", user).splitlines()
    found = set()
    for line in lines:
        resource, _, verbs = line.partition(" ")
        found |= {(resource, verb) for verb in verbs[verbs.rindex("[") + 1 : verbs.rindex("]")].split()}
    return found


def ask(served: Served) -> httpx.Response:
    """Return what the gateway answers to a short question, asked through the API server."""
    gateway = served.names("gateway")[0]
    path = f"/api/v1/namespaces/{served.namespace}/pods/{gateway}:8000/proxy/v1/completions"
    return api().post(path, json={**QUESTIONS[1], "max_tokens": 2})


def refusal(served: Served) -> Object:
    """Return the body of a 503; empty if the answer was another one."""
    answer = ask(served)
    return dict(answer.json()) if answer.status_code == 503 else {}


def first_refusal(asked: list[Future[Object]], askers: Executor, served: Served) -> Object:
    """Ask once more, and return the body of the first 503 so far; empty if there is none."""
    asked.append(askers.submit(refusal, served))
    done = [one.result() for one in asked if one.done() and not one.exception()]
    return next(filter(None, done), {})


def answers(served: Served) -> bool:
    return ask(served).status_code == 200


def holder() -> str:
    """Return who holds the operator's lease."""
    lease = get(f"/apis/coordination.k8s.io/v1/namespaces/{demo.OPERATOR_NAMESPACE}/leases/{OPERATOR}")
    return str(lease.get("spec", {}).get("holderIdentity") or "")


def operator_pods() -> list[Object]:
    selector = "app.kubernetes.io/name=glm5-operator"
    found = get(f"/api/v1/namespaces/{demo.OPERATOR_NAMESPACE}/pods", labelSelector=selector)
    return list(found["items"])


def scale(replicas: str) -> None:
    """Set the number of operators and wait until there are so many."""
    where = ["-n", demo.OPERATOR_NAMESPACE, f"deployment/{OPERATOR}"]
    kind_cluster.kubectl("scale", *where, f"--replicas={replicas}")
    wait_for(lambda: len([pod for pod in operator_pods() if is_ready(pod)]) == int(replicas), f"{replicas} operators")
    wait_for(lambda: len(operator_pods()) == int(replicas), f"{replicas} operators and no other pod")
