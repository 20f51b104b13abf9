"""The charts with the real helm: rendered, refused, and installed, upgraded, uninstalled in a real API server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import helm
from support_apiserver import ApiServer

pytestmark = pytest.mark.apiserver
ROOT = Path(__file__).parents[2]
OPERATOR, DEPLOYMENT = ROOT / "charts/glm5-operator", ROOT / "charts/glm5-deployment"
NAMESPACE = "glm5-system"
CLAIM = "model.source.persistentVolumeClaim.claimName=model"
MONITORS = "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,metrics.dashboard.enabled=true"


def run_helm(*args: str | Path) -> str:
    """What helm prints; an error carries helm's words."""
    command = [str(helm.binary()), *map(str, args)]
    try:
        return subprocess.run(command, text=True, capture_output=True, timeout=300, check=True).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise


def refusal(*args: str | Path) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_helm(*args)
    return str(caught.value.stderr)


def rendered(chart: Path, *sets: str, name: str = "my") -> list[dict[str, Any]]:
    flags = [part for one in sets for part in ("--set", one)]
    text = run_helm("template", name, chart, "-n", NAMESPACE, "--kube-version", "1.34.0", *flags)
    return [one for one in yaml.safe_load_all(text) if one]


@pytest.mark.parametrize("sets", [(), ("watchNamespaces={a,b}", MONITORS), ("crds.enabled=false", "rbac.create=false")])
def test_the_operators_chart_passes_lint(sets: tuple[str, ...]) -> None:
    flags = [part for one in sets for part in ("--set", one)]
    assert "0 chart(s) failed" in run_helm("lint", "--strict", "--kube-version", "1.34.0", OPERATOR, *flags)


def test_the_deployments_chart_passes_lint() -> None:
    assert "0 chart(s) failed" in run_helm("lint", "--strict", "--kube-version", "1.34.0", DEPLOYMENT, "--set", CLAIM)


def test_the_rendered_crds_are_the_generated_files() -> None:
    found = {one["metadata"]["name"]: one for one in rendered(OPERATOR) if one["kind"] == "CustomResourceDefinition"}
    files = [yaml.safe_load(path.read_text()) for path in sorted((OPERATOR / "files/crds").glob("*.yaml"))]

    assert len(files) == len(found) == 3
    for crd in files:
        metadata = found[crd["metadata"]["name"]]["metadata"]
        assert found[crd["metadata"]["name"]]["spec"] == crd["spec"]
        assert metadata["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_crds_can_be_left_to_somebody_else() -> None:
    kinds = {one["kind"] for one in rendered(OPERATOR, "crds.enabled=false")}
    assert "CustomResourceDefinition" not in kinds


def test_named_namespaces_get_a_role_each_and_the_cluster_none() -> None:
    found = rendered(OPERATOR, "watchNamespaces={a,b}", "rbac.aggregate=false")

    roles = [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found if one["kind"] == "Role"]
    assert roles == [(NAMESPACE, "my-glm5-operator-lease"), ("a", "my-glm5-operator"), ("b", "my-glm5-operator")]
    assert not [one for one in found if one["kind"].startswith("ClusterRole")]


def test_the_dashboard_and_its_monitors_are_options() -> None:
    kinds = [one["kind"] for one in rendered(OPERATOR, MONITORS)]
    assert {"ServiceMonitor", "PodMonitor"} <= set(kinds)
    board = next(one for one in rendered(OPERATOR, MONITORS) if one["metadata"]["name"].endswith("dashboard"))
    assert json.loads(board["data"]["glm5-serve.json"])["panels"]
    assert not {"ServiceMonitor", "PodMonitor"} & {one["kind"] for one in rendered(OPERATOR)}


@pytest.mark.parametrize(
    ("chart", "value", "words"),
    [
        (OPERATOR, "replicas=-1", "replicas"),
        (OPERATOR, "replicaCount=1", "replicaCount"),
        (OPERATOR, "log.level=loud", "level"),
        (OPERATOR, "watchNamespaces={A_B}", "watchNamespaces"),
        (OPERATOR, "metrics.podMonitor.interval=often", "interval"),
        (DEPLOYMENT, "model.source.hostPath.path=/", "hostPath"),
        (DEPLOYMENT, "experts.shards=0", "shards"),
        (DEPLOYMENT, "decode.accelerator.type=gpu", "type"),
        (DEPLOYMENT, "decode.hostNetwork=true", "hostNetwork"),
        (DEPLOYMENT, "test.patienceSeconds=0", "patienceSeconds"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_sent(chart: Path, value: str, words: str) -> None:
    base = ("--set", CLAIM) if chart == DEPLOYMENT else ()
    message = refusal("template", "my", chart, "--kube-version", "1.34.0", *base, "--set", value)

    assert "don't meet the specifications of the schema" in message
    assert words in message


def test_a_deployment_without_a_source_is_refused() -> None:
    assert "source" in refusal("template", "my", DEPLOYMENT, "--kube-version", "1.34.0")


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    for chart in (OPERATOR, DEPLOYMENT):
        values = yaml.safe_load((chart / "values.yaml").read_text())
        schema = json.loads((chart / "values.schema.json").read_text())
        assert set(schema["properties"]) - {"global"} == set(values)


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """An API server of our own: the CRDs in it shall be helm's."""
    with ApiServer() as server:
        yield server


def release(api: ApiServer, *args: str | Path) -> str:
    return run_helm(*args, "-n", NAMESPACE, "--kubeconfig", api.kubeconfig)


def older_chart(folder: Path) -> Path:
    """The chart as it was before `telemetry` existed."""
    chart = folder / "older"
    shutil.copytree(OPERATOR, chart)
    path = chart / "files/crds/glm5deployments.serving.glm5.io.yaml"
    crd = yaml.safe_load(path.read_text())
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["telemetry"]
    path.write_text(yaml.safe_dump(crd))
    return chart


def test_the_life_of_the_operators_release(api: ApiServer, tmp_path: Path) -> None:
    """Install an older one, upgrade, uninstall, come back under another name; what was asked for stays throughout."""
    release(api, "install", "first", older_chart(tmp_path), "--create-namespace")
    api.kubectl("wait", "--for=condition=Established", "--timeout=120s", "crd", "--all")
    api.kubectl("apply", "-f", str(ROOT / "examples/toy.yaml"))
    assert "unknown field" in strict_error(api, ROOT / "examples/nvidia.yaml")
    before = uid(api, "toy")

    release(api, "upgrade", "first", OPERATOR)
    api.kubectl("apply", "--validate=strict", "-f", str(ROOT / "examples/nvidia.yaml"))

    release(api, "uninstall", "first")
    assert "glm5deployments.serving.glm5.io" in api.kubectl("get", "crd", "-o", "name")
    assert uid(api, "toy") == before

    release(api, "install", "second", OPERATOR, "--take-ownership")
    assert uid(api, "toy") == before
    release(api, "upgrade", "second", OPERATOR, "--set", "replicas=1")

    assert rights_of(api, "second-glm5-operator") == committed_rights()


def test_a_deployment_is_asked_for_by_its_chart(api: ApiServer) -> None:
    sets = (CLAIM, "decode.scaling.maxReplicas=3", "decode.cacheTokens=100000000", "images.tag=dev")
    flags = [part for one in sets for part in ("--set", one)]
    run_helm("install", "chat", DEPLOYMENT, *flags, "-n", "default", "--kubeconfig", api.kubeconfig)

    spec = json.loads(api.kubectl("get", "glm5", "chat", "-n", "default", "-o", "json"))["spec"]
    assert spec["decode"]["cacheTokens"] == 100_000_000
    assert spec["decode"]["scaling"]["maxReplicas"] == 3
    assert "replicas" not in spec["decode"]
    assert spec["images"]["runtime"] == "glm5-serve/runtime:dev"
    run_helm("uninstall", "chat", "-n", "default", "--kubeconfig", api.kubeconfig)
    assert "chat" not in api.kubectl("get", "glm5", "-n", "default", "-o", "name")


def test_the_pod_that_asks_passes_restricted_admission(api: ApiServer) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "asking", "labels": labels}})
    pod = next(one for one in rendered(DEPLOYMENT, CLAIM) if one["kind"] == "Pod")
    pod["metadata"]["namespace"] = "asking"

    api.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(pod))


def strict_error(api: ApiServer, path: Path) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        api.kubectl("apply", "--validate=strict", "-f", str(path))
    return str(caught.value.stderr)


def uid(api: ApiServer, name: str) -> str:
    return api.kubectl("get", "glm5", name, "-o", "jsonpath={.metadata.uid}")


def account(name: str) -> tuple[str, ...]:
    return (f"--as=system:serviceaccount:{NAMESPACE}:{name}",)


def rights_of(api: ApiServer, name: str) -> set[tuple[str, str, str]]:
    """(group, resource, verb) that the account has and an account without any binding has not."""
    mine, everybodys = (_rules(api, one) for one in (name, "nobody-bound-this"))
    return mine - everybodys


def _rules(api: ApiServer, name: str) -> set[tuple[str, str, str]]:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"},
    }
    text = api.kubectl("create", "--validate=false", "-o", "json", "-f", "-", *account(name), stdin=json.dumps(review))
    return _flat(json.loads(text)["status"]["resourceRules"])


def committed_rights() -> set[tuple[str, str, str]]:
    return _flat(yaml.safe_load((OPERATOR / "files/rights.yaml").read_text()))


def _flat(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
