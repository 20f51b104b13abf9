"""The operator as a process on a real API server: children, drift, deletion, scaling, what goes wrong."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from glm5_operator.kinds import WRITTEN
from support_apiserver import ApiServer
from support_operator_process import (
    OperatorProcess,
    apply_deployment,
    children,
    condition,
    pass_check,
    passes_write_nothing,
    settle,
    wait_for,
)

pytestmark = pytest.mark.apiserver
REPAIRED_SECONDS = 10.0
"""What a repair may take; it takes one."""
FIXED = {
    ("ServiceAccount", "demo"),
    ("Service", "demo"),
    *(("Service", f"demo-{role}") for role in ("gateway", "prefill", "decode", "experts")),
    *(("PodDisruptionBudget", f"demo-{role}") for role in ("gateway", "prefill", "decode", "experts")),
    *(("NetworkPolicy", f"demo-{role}") for role in ("gateway", "prefill", "decode", "experts", "check")),
    ("GLM5ExpertPlacement", "demo"),
}
WORKLOADS = {("Deployment", f"demo-{role}") for role in ("gateway", "prefill", "decode")}


@pytest.fixture(scope="module")
def operator(glm5_api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    glm5_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "glm5-system"}})
    log = tmp_path_factory.mktemp("operator") / "log"
    with OperatorProcess(glm5_api, log) as process:
        wait_for(process.leads, "the operator leads")
        yield process
        assert process.terminate() == 0


@pytest.fixture
def demo(glm5_api: ApiServer, operator: OperatorProcess, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace with a deployment `demo` whose model was checked and whose children are all there."""
    namespace = f"t{abs(hash(request.node.name)) % 10**8}"
    apply_deployment(glm5_api, namespace)
    pass_check(glm5_api, namespace)
    wait_for(lambda: complete(glm5_api, namespace), "all children exist")
    settle(operator, glm5_api, namespace)
    yield namespace
    glm5_api.kubectl("delete", "glm5", "--all", "-n", namespace)


def test_a_deployment_gets_all_its_children_and_then_nothing_more_is_written(
    glm5_api: ApiServer, operator: OperatorProcess, demo: str
) -> None:
    found = children(glm5_api, demo)
    kinds = [kind for kind, _ in found]
    assert set(found) >= FIXED | WORKLOADS
    assert kinds.count("Job") == 1
    assert kinds.count("StatefulSet") == 1
    assert kinds.count("ControllerRevision") == kinds.count("ConfigMap") == 4
    for one in found.values():
        assert "finalizers" not in one["metadata"], one["metadata"]
        assert "kopf" not in json.dumps(one["metadata"])
    owner = json.loads(glm5_api.kubectl("get", "glm5", "demo", "-n", demo, "-o", "json"))
    assert "finalizers" not in owner["metadata"]
    assert "kopf" not in json.dumps(owner["metadata"].get("annotations", {}))

    wait_for(lambda: passes_write_nothing(operator, glm5_api, demo), "passes write nothing")


def test_no_pod_is_made_before_the_model_was_checked_nor_if_it_is_damaged(
    glm5_api: ApiServer, operator: OperatorProcess
) -> None:
    apply_deployment(glm5_api, "damaged")
    fault = {"kind": "tensor", "file": "model-1.safetensors", "message": "is cut off", "cure": "download it again"}
    pass_check(glm5_api, "damaged", faults=[fault])

    wait_for(lambda: condition(glm5_api, "damaged", "ModelChecked").get("status") == "False", "the check failed")

    found = condition(glm5_api, "damaged", "ModelChecked")
    assert found["reason"] == "CheckFailed"
    assert found["message"] == "model-1.safetensors: is cut off; download it again"
    assert not {"Deployment", "StatefulSet"} & {kind for kind, _ in children(glm5_api, "damaged")}
    events = glm5_api.kubectl("get", "events", "-n", "damaged", "-o", "jsonpath={.items[*].reason}")
    assert "ModelRejected" in events
    glm5_api.kubectl("delete", "glm5", "demo", "-n", "damaged")


def test_each_kind_of_child_comes_back_when_deleted(glm5_api: ApiServer, demo: str) -> None:
    before = children(glm5_api, demo)
    for kind in WRITTEN:
        name = next((name for one, name in before if one == kind.kind), None)
        if name is None:
            continue  # no scaler here; see the test about scaling
        uid = before[kind.kind, name]["metadata"]["uid"]
        glm5_api.kubectl("delete", resource(kind), name, "-n", demo, "--wait=false")
        back = partial(other_uid, glm5_api, demo, resource(kind), name, uid)
        wait_for(back, f"{kind.kind} {name} is back", REPAIRED_SECONDS)


def test_an_edited_child_is_repaired_and_fields_of_others_stay(glm5_api: ApiServer, demo: str) -> None:
    ours = "app.kubernetes.io/managed-by"
    before = children(glm5_api, demo)
    for kind in WRITTEN:
        name = next((name for one, name in before if one == kind.kind), None)
        if name is None:
            continue
        labels = {"metadata": {"labels": {ours: "somebody", "theirs": "stays"}}}
        glm5_api.kubectl("patch", resource(kind), name, "-n", demo, "--type=merge", "-p", json.dumps(labels))
    # Owned fields in the bodies too, one by being changed, one by being removed.
    scale = json.dumps({"spec": {"replicas": 7}})
    glm5_api.kubectl("patch", "deployment", "demo-decode", "-n", demo, "--type=merge", "-p", scale)
    glm5_api.kubectl(
        "patch", "service", "demo", "-n", demo, "--type=json", "-p", '[{"op":"remove","path":"/spec/ports/1"}]'
    )
    orphan = '[{"op":"remove","path":"/metadata/ownerReferences"}]'
    glm5_api.kubectl("patch", "poddisruptionbudget", "demo-decode", "-n", demo, "--type=json", "-p", orphan)

    def repaired() -> bool:
        found = children(glm5_api, demo)
        return (
            all(one["metadata"]["labels"][ours] == "glm5-operator" for one in found.values())
            and found["Deployment", "demo-decode"]["spec"]["replicas"] == 2
            and len(found["Service", "demo"]["spec"]["ports"]) == 2
            and bool(found["PodDisruptionBudget", "demo-decode"]["metadata"].get("ownerReferences"))
        )

    wait_for(repaired, "every child is as before", REPAIRED_SECONDS)
    touched = [one for one in children(glm5_api, demo).values() if one["metadata"]["labels"].get("theirs") == "stays"]
    assert len(touched) == len({kind for kind, _ in before})


def test_a_role_with_scaling_has_a_scaler_whose_number_holds(glm5_api: ApiServer, operator: OperatorProcess) -> None:
    scaling = {"scaling": {"minReplicas": 1, "maxReplicas": 5}}
    apply_deployment(glm5_api, "scaled", decode=scaling)
    pass_check(glm5_api, "scaled")
    wait_for(lambda: complete(glm5_api, "scaled"), "all children exist")
    assert replicas(glm5_api, "scaled") == 1

    glm5_api.kubectl("scale", "glm5rolescaler", "demo-decode", "-n", "scaled", "--replicas=3")
    wait_for(lambda: replicas(glm5_api, "scaled") == 3, "decode has 3 replicas")
    label = '{"metadata":{"labels":{"app.kubernetes.io/managed-by":"somebody"}}}'
    glm5_api.kubectl("patch", "glm5rolescaler", "demo-decode", "-n", "scaled", "--type=merge", "-p", label)

    def scaler() -> dict[str, Any]:
        return dict(children(glm5_api, "scaled")["GLM5RoleScaler", "demo-decode"])

    wait_for(lambda: "somebody" not in json.dumps(scaler()["metadata"]["labels"]), "the scaler was repaired")
    assert scaler()["spec"]["replicas"] == 3
    assert replicas(glm5_api, "scaled") == 3

    uid = scaler()["metadata"]["uid"]
    glm5_api.kubectl("delete", "glm5rolescaler", "demo-decode", "-n", "scaled", "--wait=false")
    back = partial(other_uid, glm5_api, "scaled", "glm5rolescaler", "demo-decode", uid)
    wait_for(back, "the scaler is back", REPAIRED_SECONDS)
    glm5_api.kubectl("delete", "glm5", "demo", "-n", "scaled")


def test_nothing_is_repaired_under_a_deployment_that_is_being_deleted(
    glm5_api: ApiServer, operator: OperatorProcess, demo: str
) -> None:
    held = '{"metadata":{"finalizers":["example.com/held"]}}'
    glm5_api.kubectl("patch", "glm5", "demo", "-n", demo, "--type=merge", "-p", held)
    settle(operator, glm5_api, demo)
    glm5_api.kubectl("delete", "glm5", "demo", "-n", demo, "--wait=false", "--cascade=foreground")
    wait_for(lambda: not children(glm5_api, demo), "the children went")

    settle(operator, glm5_api, demo)

    assert not children(glm5_api, demo)
    glm5_api.kubectl("patch", "glm5", "demo", "-n", demo, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_an_object_of_somebody_else_is_not_taken_over(glm5_api: ApiServer, operator: OperatorProcess) -> None:
    glm5_api.kubectl("create", "namespace", "taken")
    glm5_api.kubectl("create", "serviceaccount", "demo", "-n", "taken")
    apply_deployment(glm5_api, "taken")

    wait_for(lambda: condition(glm5_api, "taken", "Progressing").get("reason") == "NameTaken", "the name is taken")

    assert "ServiceAccount demo exists" in condition(glm5_api, "taken", "Progressing")["message"]
    account = json.loads(glm5_api.kubectl("get", "serviceaccount", "demo", "-n", "taken", "-o", "json"))
    assert "ownerReferences" not in account["metadata"]
    glm5_api.kubectl("delete", "glm5", "demo", "-n", "taken")


def complete(api: ApiServer, namespace: str) -> bool:
    found = children(api, namespace)
    return set(found) >= FIXED | WORKLOADS and any(kind == "StatefulSet" for kind, _ in found)


def resource(kind: Any) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else str(kind.plural)


def other_uid(api: ApiServer, namespace: str, kind: str, name: str, uid: str) -> bool:
    try:
        live = json.loads(api.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    except subprocess.CalledProcessError:
        return False
    return bool(live["metadata"]["uid"] != uid)


def replicas(api: ApiServer, namespace: str) -> int:
    return int(children(api, namespace)["Deployment", "demo-decode"]["spec"]["replicas"])
