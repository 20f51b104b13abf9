"""What is rendered: golden manifests of the examples, and what must hold for every deployment.

After a change that is meant: GLM5_GOLDEN=write pytest tests/unit/operator/test_manifests.py, and read the diff. A
change of a pod template needs no roll of what runs (templates are stored), but every *new* revision gets it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from glm5_operator import manifests, names
from glm5_operator.revision import role_revision
from glm5_spec.resource import ROLE_NAMES, GLM5Deployment, from_object, load_deployment
from support_manifests import EXAMPLES, NAMES, Manifest, children, example, placed, pod_templates
from support_specs import right

GOLDEN = Path(__file__).parent / "golden"


def changed(name: str, **spec: object) -> GLM5Deployment:
    """The example with some sections of its spec replaced or extended."""
    body = example(name).model_dump(mode="json", exclude_none=True)
    for key, value in spec.items():
        old = body["spec"].get(key)
        body["spec"][key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return from_object(body)


def shown(name: str) -> list[Manifest]:
    """All children of the toy; of the others what differs: the pods."""
    found = children(example(name))
    return found if name == "toy" else [one for one in found if one["kind"] in ("Deployment", "StatefulSet", "Job")]


@pytest.mark.parametrize("name", NAMES)
def test_the_manifests_of_an_example_are_the_golden_ones(name: str) -> None:
    rendered = yaml.safe_dump_all(json.loads(json.dumps(shown(name))), sort_keys=False, width=120)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("GLM5_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered)

    assert list(yaml.safe_load_all(path.read_text())) == list(yaml.safe_load_all(rendered))


@pytest.mark.parametrize("name", NAMES)
def test_every_child_is_owned_labelled_and_named_once(name: str) -> None:
    owner = example(name)
    found = children(owner)

    for one in found:
        metadata = one["metadata"]
        assert metadata["namespace"] == "serving"
        assert metadata["labels"][names.DEPLOYMENT_LABEL] == owner.metadata.name
        assert [(ref["uid"], ref["controller"]) for ref in metadata["ownerReferences"]] == [("3f0c7d5a-uid", True)]
    identities = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("name", NAMES)
def test_pods_are_fenced(name: str) -> None:
    for template in pod_templates(children(example(name))):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert all("hostPath" not in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_names_of_the_longest_deployment_fit() -> None:
    body = right("a" * 32)
    body["spec"]["experts"]["replicas"] = 64
    found = children(placed(from_object(body), "serving", "u"))

    for one in found:
        name = one["metadata"]["name"]
        limit = 52 if one["kind"] == "StatefulSet" else 63
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= limit, f"{one['kind']} {name}"
    for metadata in [one["metadata"] for one in found] + [one["metadata"] for one in pod_templates(found)]:
        assert all(len(value) <= 63 for value in metadata["labels"].values())


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_counts_change_no_template_and_no_revision(role: str) -> None:
    few = changed("toy", decode={"replicas": 1})
    many = changed("toy", decode={"replicas": 8}, prefill={"replicas": 4}, gateway={"replicas": 3})

    revisions = [role_revision(one, role) for one in (few, many)]  # type: ignore[arg-type]
    stored = [manifests.controller_revision(one, role, revisions[0], 1) for one in (few, many)]  # type: ignore[arg-type]

    assert revisions[0] == revisions[1]
    assert stored[0] == stored[1]


def test_more_shards_change_the_shards_alone() -> None:
    four, eight = example("toy"), changed("toy", experts={"shards": 8})

    differ = [role for role in ROLE_NAMES if role_revision(four, role) != role_revision(eight, role)]
    assert differ == ["experts"]
    for role in ("gateway", "prefill", "decode"):
        assert manifests.controller_revision(four, role, "r", 1) == manifests.controller_revision(eight, role, "r", 1)


def test_another_model_revision_is_another_weight_version_and_it_comes_back() -> None:
    versions = []
    for revision in ("1", "2", "1"):
        spec = changed("toy", model={"revision": revision})
        text = manifests.settings_map(spec, "decode", "r")["data"]["settings.json"]
        versions.append(yaml.safe_load(text)["weight_version"])

    assert versions[0] == versions[2] != versions[1]


def test_settings_are_named_by_what_they_say() -> None:
    one = manifests.settings_map(example("toy"), "decode", "r")
    same = manifests.settings_map(changed("toy", decode={"replicas": 9}), "decode", "r")
    other = manifests.settings_map(changed("toy", detectionSeconds=1), "decode", "r")

    assert one == same
    assert one["metadata"]["name"] != other["metadata"]["name"]


def test_a_shard_knows_its_place_from_the_pod_itself() -> None:
    owner = changed("toy", experts={"replicas": 2})
    sets = [one for one in children(owner) if one["kind"] == "StatefulSet"]

    assert [one["spec"]["template"]["metadata"]["labels"][names.GROUP_LABEL] for one in sets] == ["0", "1"]
    for one in sets:
        env = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in _container(one)["env"]}
        assert env["GLM5_SHARD"] == "metadata.labels['apps.kubernetes.io/pod-index']"
        assert env["GLM5_GROUP"] == f"metadata.labels['{names.GROUP_LABEL}']"
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_variable_of_the_user_replaces_ours_instead_of_standing_twice() -> None:
    pod = {"env": [{"name": "ASCEND_VISIBLE_DEVICES", "value": "3"}]}
    template = manifests.controller_revision(changed("ascend-a2", decode={"pod": pod}), "decode", "r", 1)["data"]

    env = template["template"]["spec"]["containers"][0]["env"]
    assert [one for one in env if one["name"] == "ASCEND_VISIBLE_DEVICES"] == pod["env"]


@pytest.mark.parametrize(
    ("name", "resource", "labels"),
    [
        ("nvidia", "nvidia.com/gpu", {}),
        ("ascend-a2", "huawei.com/Ascend910", {"accelerator-type": "module-910b-8"}),
        ("ascend-a3", "huawei.com/Ascend910", {"accelerator-type": "module-a3-16"}),
    ],
)
def test_an_accelerator_is_a_resource_and_a_kind_of_node(name: str, resource: str, labels: dict[str, str]) -> None:
    for one in children(example(name)):
        if one["kind"] not in ("Deployment", "StatefulSet"):
            continue
        resources = _container(one).get("resources", {})
        if one["metadata"]["labels"][names.ROLE_LABEL] == "gateway":
            assert resource not in resources.get("limits", {})
        else:
            assert resources["limits"][resource] == resources["requests"][resource] == "1"
            assert labels.items() <= one["spec"]["template"]["spec"]["nodeSelector"].items()


def test_the_driver_of_the_host_is_mounted_only_where_it_was_asked_for() -> None:
    accelerator = {"type": "ascend-a2", "hostDriver": "Mount"}
    data = manifests.controller_revision(changed("ascend-a2", decode={"accelerator": accelerator}), "decode", "r", 1)

    pod = data["data"]["template"]["spec"]
    paths = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
    assert paths == ["/usr/local/Ascend/driver", "/etc/ascend_install.info"]
    mounts = pod["containers"][0]["volumeMounts"]
    assert all(mount["readOnly"] for mount in mounts if mount["mountPath"] in paths)


def test_a_token_reaches_the_download_and_nobody_else() -> None:
    holders = []
    for one in children(example("huggingface")):
        if "template" in one.get("spec", {}) and "hub-token" in str(one["spec"]["template"]):
            holders.append(one["metadata"]["labels"][names.JOB_LABEL])
    assert holders == ["download"]


def test_every_example_file_is_rendered_here() -> None:
    kinds = [path.stem for path in EXAMPLES.glob("*.yaml") if load_deployment(path)]
    assert sorted(kinds) == sorted(NAMES)


def _container(workload: Manifest) -> Manifest:
    container: Manifest = workload["spec"]["template"]["spec"]["containers"][0]
    return container
