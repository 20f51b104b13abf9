"""The generated CRDs: complete, small, and with the defaults that were released."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glm5_spec.resource.crd import crds

DEFAULTS = Path(__file__).parent / "defaults_v1alpha1.json"


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a structural schema with its path."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from nodes(schema[part], f"{path}[]")


def all_nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    for crd in crds():
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        yield from nodes(schema, crd["spec"]["names"]["kind"])


def test_every_field_says_what_it_is() -> None:
    by_kubernetes = ("apiVersion", "kind", "metadata")
    silent = [
        path
        for path, node in all_nodes()
        if not path.endswith("[]") and path.split(".", 1)[-1] not in by_kubernetes and not node.get("description")
    ]
    assert silent == []


def test_the_schema_is_structural() -> None:
    for path, node in all_nodes():
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not {"$ref", "allOf", "oneOf", "title", "const", "patternProperties"} & node.keys(), path


def test_every_list_and_text_of_a_spec_is_bounded_so_that_rules_have_a_price() -> None:
    unbounded = [
        path
        for path, node in all_nodes()
        if ".spec." in path
        and (
            (node.get("type") == "array" and "maxItems" not in node)
            or (node.get("type") == "string" and "maxLength" not in node and "enum" not in node)
            or ("additionalProperties" in node and "maxProperties" not in node)
        )
    ]
    assert unbounded == []


def test_every_rule_has_a_message_of_its_own() -> None:
    rules = {
        (rule["rule"], rule["message"]) for _, node in all_nodes() for rule in node.get("x-kubernetes-validations", ())
    }
    assert len({message for _, message in rules}) == len({rule for rule, _ in rules}) == len(rules)
    assert len(rules) > 20


def test_all_crds_together_are_below_100_kilobytes() -> None:
    assert sum(len(json.dumps(crd)) for crd in crds()) < 100_000


def test_defaults_of_the_released_version_have_not_changed() -> None:
    """A changed default would change what is already running; add a field instead, and write it into the file."""
    released = json.loads(DEFAULTS.read_text())
    now = {path: node["default"] for path, node in all_nodes() if ".spec" in path and "default" in node}

    assert now == released, "write the defaults of new fields into tests/unit/spec/defaults_v1alpha1.json"
