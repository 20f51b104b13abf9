"""A deployment as its chart makes it: `helm test`, models that turn out to be wrong, an operator under another name.

Models that only the cluster or the runtime can judge: within 30 s a condition says what is wrong, and no pod rolls.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import yaml

from cluster import demo, images, kind_cluster, wheels
from support_kind import Object, Served, claim_models, get, install_model, is_ready, model_section, run_helm, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
GOOD, DAMAGED = "toy-a", "toy-damaged"
DEPLOYMENT, OPERATOR = (wheels.REPOSITORY / "charts" / name for name in ("glm5-deployment", "glm5-operator"))
SMALL: Object = {
    "images": {"tag": "dev"},
    "model": model_section(GOOD),
    "decode": {"replicas": 1, "threads": 1},
    "prefill": {"replicas": 1, "threads": 1},
    "experts": {"shards": 1, "replicas": 1, "threads": 1},
    "dtype": "float32",
}


@pytest.fixture(scope="module")
def served(module_namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A small deployment of a good model that serves."""
    install_model(GOOD, seed=1)
    claim_models(module_namespace)
    values = tmp_path_factory.mktemp("values") / "values.yaml"
    values.write_text(yaml.safe_dump(SMALL))
    run_helm("install", "toy", DEPLOYMENT, "-n", module_namespace, "-f", values)
    one = Served(module_namespace)
    one.wait_ready()
    return one


@pytest.fixture
def damaged() -> Path:
    """A checkpoint whose weights end too early."""
    path = kind_cluster.models() / DAMAGED
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(kind_cluster.models() / GOOD, path)
    weights = next(path.glob("*.safetensors"))
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    return path


def with_claim(name: str) -> Object:
    source = {"persistentVolumeClaim": {"claimName": name, "path": GOOD}}
    return {**model_section(GOOD), "revision": name, "source": source}


def rejected(served: Served, model: Object) -> tuple[str, str]:
    """Ask for a model and return reason and message of the condition that says what is wrong with it."""
    before = uids(served)
    begun = time.monotonic()
    served.patch(model=model)
    found = wait_for(lambda: verdict(served), "ModelChecked is False")
    took = time.monotonic() - begun

    assert uids(served) == before
    assert all(map(is_ready, served.pods()))
    assert served.is_true("Serving")
    assert took < 30, f"{took:.0f} s"
    return found["reason"], found["message"]


def uids(served: Served) -> set[str]:
    return {pod["metadata"]["uid"] for pod in served.pods()}


def verdict(served: Served) -> Object:
    found = served.condition("ModelChecked")
    return found if found.get("status") == "False" else {}


def test_helm_test_asks_the_model(served: Served) -> None:
    said = run_helm("test", "toy", "-n", served.namespace, "--logs", "--timeout=10m")
    assert "Phase:          Succeeded" in said
    assert '"completion_tokens"' in said


def test_a_claim_that_does_not_exist(served: Served) -> None:
    reason, message = rejected(served, with_claim("missing"))
    assert reason == "Unschedulable"
    assert 'persistentvolumeclaim "missing" not found' in message
    assert "spec.model.source" in message


def test_a_folder_that_does_not_exist(served: Served) -> None:
    reason, message = rejected(served, model_section("nowhere"))
    assert reason == "CheckFailed"
    assert "/model/nowhere" in message


def test_a_checkpoint_whose_weights_are_cut_short(served: Served, damaged: Path) -> None:
    reason, message = rejected(served, model_section(DAMAGED))
    assert reason == "CheckFailed"
    assert ".safetensors" in message


def test_the_good_model_is_asked_for_again_and_no_pod_was_or_is_changed(served: Served) -> None:
    before = uids(served)
    served.patch(model=model_section(GOOD))
    served.wait_ready()
    assert uids(served) == before


def test_an_operator_under_another_name_takes_over_what_serves(served: Served) -> None:
    pods = uids(served)
    where = ("-n", demo.OPERATOR_NAMESPACE)
    run_helm("uninstall", "glm5-operator", *where, "--wait", "--timeout=5m")
    try:
        assert served.live(), "the definitions and what they define outlive the operator"
        assert all(map(is_ready, served.pods()))
        image = [f"--set=image.tag={images.tag('operator').partition(':')[2]}"]
        run_helm("install", "other", OPERATOR, *where, "--take-ownership", "--wait", "--timeout=5m", *image)
        try:
            service = f"/api/v1/namespaces/{served.namespace}/services/{served.name}"
            kind_cluster.kubectl("delete", "service", "-n", served.namespace, served.name)
            wait_for(lambda: get(service), "the other operator repairs")
            assert uids(served) == pods
        finally:
            run_helm("uninstall", "other", *where, "--wait", "--timeout=5m")
    finally:
        demo.install_operator()
    served.wait_ready()
    run_helm("uninstall", "toy", "-n", served.namespace)
    wait_for(lambda: served.pods() == [], "all pods are gone", 300)
