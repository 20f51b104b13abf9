"""The CRDs in a real API server: right specs are taken with their defaults, wrong ones refused, each with its words."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from typing import Any

import pytest

from glm5_spec.resource import from_object
from support_apiserver import ApiServer
from support_specs import WRONG, Manifest, Wrong, right

pytestmark = pytest.mark.apiserver
NAMESPACE = "crd"
BASE = "/apis/serving.glm5.io/v1alpha1/namespaces"


@pytest.fixture(scope="module")
def api(glm5_api: ApiServer) -> ApiServer:
    glm5_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return glm5_api


def post(api: ApiServer, manifest: Manifest) -> tuple[int, Any]:
    """Create the deployment as a strict client does; return the HTTP status and the answer."""
    request = urllib.request.Request(
        f"{api.url}{BASE}/{NAMESPACE}/glm5deployments?fieldValidation=Strict",
        data=json.dumps(manifest).encode(),
        headers={"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(
            request, timeout=60, context=ssl.create_default_context(cafile=str(api.ca_file))
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_right_spec_is_taken_and_its_defaults_are_those_of_the_classes(api: ApiServer) -> None:
    status, stored = post(api, right("right", NAMESPACE))

    assert status == 201, stored
    assert from_object(stored).spec == from_object(right("right", NAMESPACE)).spec
    assert stored["spec"]["decode"]["cacheTokens"] == 65536
    assert stored["spec"]["experts"]["accelerator"] == {"type": "cpu", "hostDriver": "None"}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: f"{one.path}={one.value!r:.20}")
def test_a_wrong_spec_is_refused_with_its_own_message(wrong: Wrong, api: ApiServer) -> None:
    status, answer = post(api, wrong.manifest(NAMESPACE))

    assert status in (400, 422), answer
    causes = answer.get("details", {}).get("causes", [])
    fields = {cause.get("field", "") for cause in causes if cause.get("field") not in (None, "<nil>")}
    if causes:
        # The schema says "spec.model.source.huggingFace.repo", a rule about the whole object "<nil>".
        assert wrong.field in fields or (not wrong.field and not fields), fields
    else:
        assert wrong.field in answer["message"]
    assert wrong.words in answer["message"]


def test_kubectl_shows_the_columns_that_matter(api: ApiServer) -> None:
    post(api, right("columns", NAMESPACE))

    plain = api.kubectl("get", "glm5", "columns", "-n", NAMESPACE)
    wide = api.kubectl("get", "glm5", "columns", "-n", NAMESPACE, "-o", "wide")

    titles = ["NAME", "MODEL", "READY", "SERVING", "REASON", "PREFILL", "DECODE", "EXPERTS", "AGE"]
    assert plain.splitlines()[0].split() == titles
    assert set(wide.splitlines()[0].split()) == {*titles, "REVISION", "URL", "ACCELERATOR"}
    assert "glm-5" in plain.splitlines()[1].split()


def test_kubectl_explains_a_field(api: ApiServer) -> None:
    text = api.kubectl("explain", "glm5.spec.experts.shards")

    assert "each holds an equal part of the experts" in " ".join(text.split())


def test_a_role_scaler_has_a_scale_and_keeps_its_role(api: ApiServer) -> None:
    scaler: Manifest = {
        "apiVersion": "serving.glm5.io/v1alpha1",
        "kind": "GLM5RoleScaler",
        "metadata": {"name": "toy-decode", "namespace": NAMESPACE},
        "spec": {"deployment": "toy", "role": "decode", "replicas": 2},
    }
    api.apply(scaler)

    api.kubectl("scale", "glm5rs/toy-decode", "-n", NAMESPACE, "--replicas=5")

    path = "jsonpath={.spec.replicas}"
    assert api.kubectl("get", "glm5rs", "toy-decode", "-n", NAMESPACE, "-o", path) == "5"
    patch = json.dumps({"spec": {"role": "prefill"}})
    with pytest.raises(subprocess.CalledProcessError) as caught:
        api.kubectl("patch", "glm5rs", "toy-decode", "-n", NAMESPACE, "--type=merge", "-p", patch)
    assert "role cannot change" in caught.value.stderr


def test_the_status_is_written_apart_from_the_spec(api: ApiServer) -> None:
    post(api, right("status", NAMESPACE))
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "AsSpecified",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    body = {"status": {"conditions": [condition], "prefill": "1/1", "experts": {"summary": "64/64"}}}

    args = ("patch", "glm5", "status", "-n", NAMESPACE, "--type=merge", "-p", json.dumps(body))
    api.kubectl(*args, "--subresource=status")

    stored = json.loads(api.kubectl("get", "glm5", "status", "-n", NAMESPACE, "-o", "json"))
    assert stored["metadata"]["generation"] == 1
    assert from_object(stored).status is not None
    assert "64/64" in api.kubectl("get", "glm5", "status", "-n", NAMESPACE)
