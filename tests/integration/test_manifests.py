"""Every rendered child in a real API server: admitted as it is where Pod Security `restricted` is enforced."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import pytest

from glm5_operator.manifests.base import Manifest
from glm5_operator.names import DEPLOYMENT_LABEL, FIELD_MANAGER, JOB_LABEL
from glm5_spec.resource import GLM5Deployment, from_object
from support_apiserver import ApiServer
from support_manifests import EXAMPLES, NAMES, children, example
from support_specs import right

pytestmark = pytest.mark.apiserver
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def namespace(glm5_api: ApiServer) -> str:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    glm5_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "manifests", "labels": labels}})
    return "manifests"


def created(api: ApiServer, name: str, namespace: str) -> GLM5Deployment:
    """The example as the API server has it: with its uid, so that owners are real."""
    api.kubectl("apply", "-n", namespace, "-f", str(EXAMPLES / f"{name}.yaml"))
    deployment = example(name).metadata.name
    return from_object(json.loads(api.kubectl("get", "glm5", deployment, "-n", namespace, "-o", "json")))


def apply(api: ApiServer, objects: list[Manifest]) -> None:
    """Apply as the operator does, strictly: an unknown or doubled field is an error."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    api.kubectl(
        "apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--validate=strict", "-f", "-", stdin=text
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_child_of_an_example_is_admitted_and_applying_it_again_changes_nothing(
    name: str, glm5_api: ApiServer, namespace: str
) -> None:
    found = children(created(glm5_api, name, namespace))

    apply(glm5_api, found)
    before = versions(glm5_api, found, namespace)
    apply(glm5_api, found)

    assert versions(glm5_api, found, namespace) == before


@pytest.mark.parametrize("name", NAMES)
def test_pods_of_every_workload_pass_restricted_admission(name: str, glm5_api: ApiServer, namespace: str) -> None:
    found = children(created(glm5_api, name, namespace))
    apply(glm5_api, found)
    pods = [pod_of(one, namespace) for one in found if one["kind"] in ("Deployment", "StatefulSet", "Job")]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})

    # RuntimeClasses and priorities are the cluster's; what is asked here is Pod Security.
    glm5_api.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


def test_a_host_driver_is_refused_where_restricted_is_enforced(glm5_api: ApiServer, namespace: str) -> None:
    body = example("ascend-a2", namespace).model_dump(mode="json", exclude_none=True)
    body["spec"]["decode"]["accelerator"]["hostDriver"] = "Mount"
    workloads = [one for one in children(from_object(body)) if one["kind"] == "Deployment"]
    mounted = next(one for one in workloads if one["metadata"]["name"] == "glm5-a2-decode")

    pod = pod_of(mounted, namespace)
    pod["spec"]["serviceAccountName"] = "default"  # the deployment's own is not there: nothing of it was applied
    wait_until(lambda: "/default" in glm5_api.kubectl("get", "serviceaccounts", "-n", namespace, "-o", "name"))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        glm5_api.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    assert 'violates PodSecurity "restricted' in caught.value.stderr
    assert "hostPath" in caught.value.stderr


def test_the_controllers_make_pods_that_know_their_place(glm5_api: ApiServer, namespace: str) -> None:
    owner = created(glm5_api, "toy", namespace)
    apply(glm5_api, children(owner))

    def pods() -> list[Manifest]:
        chosen = "serving.glm5.io/deployment=toy,serving.glm5.io/role=experts"
        return list(json.loads(glm5_api.kubectl("get", "pods", "-n", namespace, "-l", chosen, "-o", "json"))["items"])

    wait_until(lambda: len(pods()) == 4)
    assert sorted(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] for pod in pods()) == list("0123")
    assert {pod["metadata"]["labels"]["serving.glm5.io/group"] for pod in pods()} == {"0"}


def test_the_longest_names_are_admitted_and_get_pods(glm5_api: ApiServer, namespace: str) -> None:
    body = right("a" * 32, namespace)
    body["spec"]["service"] = {}
    body["spec"]["decode"]["accelerator"] = {}
    glm5_api.apply(body)
    stored = json.loads(glm5_api.kubectl("get", "glm5", "a" * 32, "-n", namespace, "-o", "json"))
    apply(glm5_api, children(from_object(stored)))

    def owners() -> set[str]:
        chosen = f"serving.glm5.io/deployment={'a' * 32}"
        found = json.loads(glm5_api.kubectl("get", "pods", "-n", namespace, "-l", chosen, "-o", "json"))["items"]
        return {
            pod["metadata"]["labels"].get("serving.glm5.io/role", pod["metadata"]["labels"].get(JOB_LABEL))
            for pod in found
        }

    wait_until(lambda: owners() == {"gateway", "prefill", "decode", "experts", "check"})


def test_deleting_the_deployment_leaves_no_child(glm5_api: ApiServer) -> None:
    glm5_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "manifests-gone"}})
    found = children(created(glm5_api, "toy", "manifests-gone"))
    apply(glm5_api, found)
    kinds = ",".join(sorted({one["kind"] for one in found} | {"Pod", "ReplicaSet"}))

    glm5_api.kubectl("delete", "glm5", "toy", "-n", "manifests-gone")

    def left() -> str:
        chosen = ("-l", "serving.glm5.io/deployment=toy", "-o", "name")
        return glm5_api.kubectl("get", kinds, "-n", "manifests-gone", *chosen).strip()

    wait_until(lambda: left() == "")


def versions(api: ApiServer, objects: list[Manifest], namespace: str) -> dict[str, int]:
    """The generation of each object, or where it has none the resourceVersion."""
    kinds = {
        one["kind"] + ("." + one["apiVersion"].split("/")[0] if "/" in one["apiVersion"] else "") for one in objects
    }
    wanted = {(one["kind"], one["metadata"]["name"]) for one in objects}
    chosen = f"{DEPLOYMENT_LABEL}={objects[0]['metadata']['labels'][DEPLOYMENT_LABEL]}"
    text = api.kubectl("get", ",".join(sorted(kinds)), "-n", namespace, "-l", chosen, "-o", "json")
    found = {}
    for one in json.loads(text)["items"]:
        metadata = one["metadata"]
        if (one["kind"], metadata["name"]) in wanted:
            found[f"{one['kind']}/{metadata['name']}"] = int(metadata.get("generation") or metadata["resourceVersion"])
    assert len(found) == len(wanted)
    return found


def pod_of(workload: Manifest, namespace: str) -> Manifest:
    """A pod as the workload's controller would make it; the index label is a StatefulSet's own."""
    template = workload["spec"]["template"]
    metadata = {**template["metadata"], "name": f"{workload['metadata']['name']}-p", "namespace": namespace}
    spec = {key: value for key, value in template["spec"].items() if key != "runtimeClassName"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.1)
