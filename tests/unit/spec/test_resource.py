"""The resource as `glm5 up -f` reads it; test_crd.py holds the same specs against a real API server."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from glm5_spec.resource import ResourceError, from_object, load_deployment, unused_locally
from glm5_spec.resource.quantity import number
from support_specs import WRONG, Manifest, Wrong, right


def written(folder: Path, *manifests: Manifest) -> Path:
    path = folder / "deployment.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    return path


def test_a_right_file_loads_with_its_values_and_defaults(tmp_path: Path) -> None:
    deployment = load_deployment(written(tmp_path, right()))

    assert deployment.spec.experts.shards == 4
    assert deployment.spec.prefill.initial_replicas == 1
    assert deployment.spec.decode.cache_tokens == 65536
    assert deployment.spec.model.source.claim == "model"


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: f"{one.path}={one.value!r:.20}")
def test_a_wrong_file_is_refused_with_its_field(wrong: Wrong, tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        load_deployment(written(tmp_path, wrong.manifest()))

    message = str(caught.value)
    place = wrong.field or "the object"
    assert f": {place}: " in message or f"; {place}: " in message
    assert wrong.words in message


def test_every_fault_of_a_file_is_said_at_once(tmp_path: Path) -> None:
    manifest = right()
    manifest["spec"]["experts"]["shards"] = 0
    manifest["spec"]["detectionSeconds"] = 99

    with pytest.raises(ResourceError, match=r"spec\.experts\.shards: .*; spec\.detectionSeconds: "):
        load_deployment(written(tmp_path, manifest))


def test_a_file_without_a_deployment_or_with_two_is_refused(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service"}
    with pytest.raises(ResourceError, match="holds 0 objects of kind GLM5Deployment"):
        load_deployment(written(tmp_path, service))
    with pytest.raises(ResourceError, match="holds 2 objects"):
        load_deployment(written(tmp_path, right("a"), service, right("b")))


def test_a_file_that_is_no_yaml_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(ResourceError, match="is not YAML"):
        load_deployment(tmp_path / "x.yaml")
    with pytest.raises(ResourceError, match=r"cannot read .*No such file"):
        load_deployment(tmp_path / "y.yaml")


def test_an_object_of_a_newer_crd_is_read_without_what_is_unknown() -> None:
    manifest = right()
    manifest["spec"]["decode"]["speculation"] = {"tokens": 3}
    manifest["metadata"] |= {"uid": "u", "generation": 3, "managedFields": []}

    deployment = from_object(manifest)

    assert deployment.metadata.uid == "u"
    assert deployment == from_object(deployment.model_dump(mode="json", exclude_none=True))


def test_what_means_nothing_on_one_machine_is_named() -> None:
    unused = unused_locally(from_object(right()))

    assert {"spec.images", "spec.service", "spec.prefill.scaling", "spec.decode.pod", "spec.experts.rollout"} <= set(
        unused
    )
    assert "spec.model" not in unused
    assert "spec.decode.replicas" not in unused


def test_scaling_bounds_what_somebody_else_asks_for() -> None:
    spec = from_object(right()).spec

    assert [spec.prefill.clamp(wanted) for wanted in (0, 1, 3, 9)] == [1, 1, 3, 4]
    assert spec.decode.clamp(9) == 2


@pytest.mark.parametrize(
    ("text", "value"), [(2, 2), ("500m", 0.5), ("1.5Gi", 1.5 * 2**30), ("3k", 3000), ("1Ti", 2**40), ("0", 0)]
)
def test_a_quantity_is_its_number(text: int | str, value: float) -> None:
    assert number(text) == value
